"""The reason of an upstream's error is found in every shape, without keys, and in bounded time."""

import json
import time
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.redaction import Redactor
from gateway.core.upstream_errors import MAX_REASON
from gateway.upstream.reason import MAX_BYTES, Said, read_said
from tests.support.json_values import values

KEY = "sk-upstream-CANARY0123456789"
HTML = "text/html; charset=utf-8"


def said(body: bytes | str | dict[str, Any] | list[Any], content_type: str = "") -> Said:
    if isinstance(body, dict | list):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body
    return read_said(data, content_type, Redactor([KEY.encode()]))


NO = "The size is too large."
MISSING = {"loc": ["body", "size"], "msg": "Field required", "type": "missing", "input": {"n": 1}}


@pytest.mark.parametrize(
    ("body", "reason", "codes"),
    [
        ({"error": {"message": NO, "type": "bad", "param": None, "code": "size"}}, NO, "size bad"),
        ({"error": {"message": NO, "code": 400, "type": None}}, NO, ""),
        ({"error": NO}, NO, ""),
        ({"error": "invalid_size", "error_description": NO}, f"invalid_size: {NO}", "invalid_size"),
        ({"statusCode": 403, "message": NO, "error": "Forbidden"}, f"Forbidden: {NO}", "Forbidden"),
        ({"error": True, "message": NO}, NO, ""),
        ({"error": {}, "message": NO}, NO, ""),
        ({"error": {"message": {"text": 1, "message": NO}}}, NO, ""),
        ({"error": [{"message": NO}, {"message": "And n."}]}, f"{NO}; And n.", ""),
        ([{"error": {"code": 403, "message": NO, "status": "DENIED"}}], NO, "DENIED"),
        ({"detail": NO}, NO, ""),
        ({"detail": [MISSING, {"msg": NO}]}, f"body.size: Field required; {NO}", "missing"),
        ({"detail": {"error": {"message": NO, "code": "size"}}}, NO, "size"),
        ({"message": NO, "code": "size"}, NO, "size"),
        ({"Message": NO}, NO, ""),
        ({"message": "Invalid.", "errors": [{"message": NO}]}, f"Invalid.: {NO}", ""),
        ({"errors": [{"code": "size", "title": NO}]}, NO, "size"),
        (
            {"type": "https://e.com/size", "title": "Forbidden", "status": 403, "detail": NO},
            f"Forbidden: {NO}",
            "",
        ),
        ({"type": "about:blank", "title": "The size"}, "The size", ""),
        ({"error": {"message": NO, "innererror": {"code": "Policy"}}}, NO, "Policy"),
        ({"fault": {"faultstring": NO}}, NO, ""),
        (f'"{NO}"', NO, ""),
        (f'\ufeff\n{{"error":"{NO}"}}', NO, ""),
        ('{"error":"The size\n is\ttoo large.", "x": NaN}', NO, ""),
        ({"error": f"<html><title>{NO}</title></html>"}, NO, ""),
        (f"<!DOCTYPE html>\n<html><head><TITLE lang=en>\n{NO}\n</TITLE>", NO, ""),
        ("<html><title> </title><h1>502 Bad &amp; Gateway</h1>", "502 Bad & Gateway", ""),
        (f"<?xml version='1.0'?><Error><Code>a</Code><Message>{NO}</Message></Error>", NO, ""),
        (f"  {NO}\r\n", NO, ""),
        ('{"error":{"message":"The size', '{"error":{"message":"The size', ""),
        *((body, None, "") for body in ("", " ", "{}", "[]", '{"error":{}}', "<p>", "{\\")),
        ({"data": []}, None, ""),
        ([[{"error": 5, "id": "x"}]], None, ""),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\x08", None, ""),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xab\x56\x4a\x2d\x2a\xca", None, ""),
    ],
)
def test_every_shape(body: Any, reason: str | None, codes: str) -> None:
    found = said(body)
    assert (found.reason, " ".join(found.codes)) == (reason, codes)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("Größe".encode(), "text/plain"),
        ("Größe".encode("utf-16"), "text/plain"),
        ("Größe".encode("latin-1"), "text/plain"),
        ("Größe".encode("latin-1"), 'text/plain; charset="ISO-8859-1"'),
        ('{"error":"Größe"}'.encode("utf-16-le"), "application/json; charset=UTF-16LE"),
        ("Größe".encode(), "text/plain; charset=punycode"),
        ("Größe".encode(), "text/plain; charset=nonsense"),
        ("Gr\u200bö\u202eß\u200de".encode(), "text/plain"),
    ],
)
def test_other_encodings_and_invisible_characters(body: bytes, content_type: str) -> None:
    assert said(body, content_type).reason == "Größe"
    assert said({"error": "The size\x00 is too\x1b large\x7f."}).reason == NO


@pytest.mark.parametrize(
    "hidden",
    [
        KEY,
        KEY.lower(),
        KEY[12:24],
        b64encode(KEY.encode()).decode(),
        KEY.encode().hex(),
        "\u200b".join(KEY),
        "sk-proj-CANARYCANARY",
        "Bearer CANARY-0123",
    ],
)
@pytest.mark.parametrize(
    "frame",
    ["Key %s.", '{"error":"%s"}', '{"error":{"message":"%s","code":"%s"}}', "<title>%s</title>"],
)
def test_no_key_gets_through(hidden: str, frame: str) -> None:
    body = frame.replace("%s", hidden)
    escaped = body.replace(hidden, "".join(f"\\u{ord(letter):04x}" for letter in hidden))
    for text in (body, escaped if "{" in frame else body, body[:-1]):
        found = said(text)
        shown = f"{found.reason} {found.codes}"
        assert "[redacted]" in shown or text != body
        for secret in (hidden, KEY):
            assert not any(secret[at : at + 8] in shown for at in range(len(secret) - 7))


def test_a_reason_has_at_most_500_characters() -> None:
    reason = said("é" * 5_000).reason
    assert reason == "é" * (MAX_REASON - 1) + "…"
    assert said("é" * MAX_REASON).reason == "é" * MAX_REASON


def test_the_data_of_a_picture_are_no_reason() -> None:
    data = b64encode(bytes(range(256))).decode()
    for body in (data, f'{{"data":[{{"b64_json":"{data}', {"error": {"message": f"No: {data}."}}):
        assert said(body).reason is None
    assert said("x" * 100).reason == "x" * 100


def test_of_a_large_body_only_the_beginning_is_read() -> None:
    assert said("a " * MAX_BYTES).reason
    assert said("é" * MAX_BYTES).reason  # cut in the middle of a character
    assert said(f"<title>No</title>{'x' * 10**7}").reason == "No"
    assert said({"error": {"message": "No.", "x": "y" * MAX_BYTES}}).codes == ()


@pytest.mark.parametrize(
    "body",
    [
        "<" * MAX_BYTES,
        "<title" * MAX_BYTES,
        "<title " * MAX_BYTES,
        "<title>" * MAX_BYTES,
        '{"error":' * 10_000,
        '{"error":' * 900 + "1" + "}" * 900,
        "[" * MAX_BYTES,
        "[" + "[]," * 20_000 + "[]]",
        json.dumps({"error": {f"message{n}": "x" for n in range(4_000)}}),
        json.dumps([{"detail": [["x" * 500] * 10] * 5}] * 2),
        "\u200b" * MAX_BYTES,
        "&#1;" * MAX_BYTES,
        "sk-" * MAX_BYTES,
        "1" * MAX_BYTES,
    ],
    ids=lambda body: body[:12],
)
def test_no_body_takes_long(body: str) -> None:
    for content_type in ("", "text/plain; charset=gb18030"):
        # Up to three times: the processor may be shared, even with a neighbour of the machine.
        assert any(_seconds(body, content_type) < 0.5 for _ in range(3))


def _seconds(body: str, content_type: str) -> float:
    started = time.process_time()
    said(body, content_type)
    return time.process_time() - started


def test_codes_are_compared_in_any_spelling_and_words_as_a_whole() -> None:
    for code in ("quota_exceeded", "QuotaExceeded", "quota-exceeded", "QUOTA_EXCEEDED"):
        assert said({"code": code}).has_code(["quota_exceeded"])
    assert not said({"code": "quota_exceeded_soon"}).has_code(["quota_exceeded"])
    assert not said({"message": "quota exceeded"}).has_code(["quota_exceeded"])
    for words in ("Quota exceeded.", "see quota-exceeded", "(quota_exceeded)"):
        assert said({"message": words}).mentions(["quota_exceeded"])
    for words in ("no_quota_exceeded", "quotas exceeded", "quota exceeded1"):
        assert not said({"message": words}).mentions(["quota_exceeded"])


@given(values | st.binary(max_size=60), st.text(max_size=20))
def test_nothing_raises(value: Any, content_type: str) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    for framed in (body, b'{"error":' + body + b"}", b'[{"detail":' + body):
        found = said(framed, content_type)
        assert found.reason is None or 0 < len(found.reason) <= MAX_REASON
        assert "\n" not in found.words
