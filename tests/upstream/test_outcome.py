"""Each row of the error table: the error, its cost, and the body for the caller."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import (
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamUnknown,
)
from gateway.upstream.outcome import MAX_REFUSAL_BYTES, REPLACED, judge
from gateway.upstream.port import Reply

NOW = 1_777_636_800.0
KEY = "sk-upstream-CANARY0123456789"
SECRETS = [KEY.encode(), b'qu"ote\\CANARY']
REFUSAL = {
    "error": {
        "message": "Your request was rejected by the safety system.",
        "type": "image_generation_user_error",
        "param": None,
        "code": "moderation_blocked",
    }
}


def verdict(status: int, body: bytes = b"{}", retry_after: str | None = None) -> UpstreamError:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    with pytest.raises(UpstreamError) as caught:
        judge(Reply(status, headers, body), SECRETS, NOW)
    return caught.value


def refused(body: bytes, status: int = 400) -> Any:
    """The body that a caller reads, parsed."""
    error = verdict(status, body)
    assert isinstance(error, UpstreamRefused)
    return json.loads(error.body)


def test_a_success_passes() -> None:
    judge(Reply(200, {}, b"whatever"), SECRETS, NOW)


@pytest.mark.parametrize(
    ("statuses", "kind", "charged", "retry"),
    [
        ([400, 404, 422, 429], UpstreamRefused, False, True),
        ([401, 403], UpstreamAuth, False, False),
        ([500, 503], UpstreamFailed, False, True),
        ([300, 301, 302, 304, 307, 308, 399], UpstreamFailed, False, False),
        ([402, 405, 407, 409, 410, 413, 415, 418, 425, 431, 499], UpstreamFailed, False, False),
        ([408, 502, 504, *range(520, 528)], UpstreamUnknown, True, False),
        ([501, 505, 507, 511, 529, 530, 598, 599], UpstreamUnknown, True, False),
        ([201, 202, 204, 206, 226, 299], UpstreamUnknown, True, False),
        ([0, 99, 100, 101, 103, 199, 600, 999], UpstreamUnknown, True, False),
    ],
)
def test_the_error_table(
    statuses: list[int], kind: type[UpstreamError], charged: bool, retry: bool
) -> None:
    for status in statuses:
        error = verdict(status, json.dumps(REFUSAL).encode())
        assert type(error) is kind
        assert (error.charged, error.retry) == (charged, retry)


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "value", "headers"),
    [
        (429, "7", {"Retry-After": "7"}),
        (429, "3600", {"Retry-After": "60"}),
        (429, "soon", {}),
        (429, None, {}),
        (400, "7", {}),
    ],
)
def test_retry_after(status: int, value: str | None, headers: dict[str, str]) -> None:
    assert verdict(status, retry_after=value).headers == headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<html>CANARY</html>",
        b'{"error":"CANARY"}',
        b'{"error":["CANARY"]}',
        b'{"error":{"message":"CANARY"}',
        b'{"error":{"message":"\\ud800CANARY"}}',
        b'{"error":{"message":"\xffCANARY"}}',
        b'{"error":{"message":"CANARY","x":1e999}}',
        b'{"error":{"message":"CANARY","x":NaN}}',
        b'{"error":{"message":"CANARY","x":' + b"1" * 5_000 + b"}}",
        b'{"error":{"message":"CANARY","x":' + b"[" * 8_000 + b"]" * 8_000 + b"}}",
        b'{"error":{"message":"CANARY' + b"x" * MAX_REFUSAL_BYTES + b'"}}',
    ],
)
def test_a_body_without_an_error_object_is_replaced(body: bytes) -> None:
    error = verdict(400, body)
    assert isinstance(error, UpstreamRefused)
    assert error.body == REPLACED
    assert json.loads(REPLACED)["error"]["code"] == "upstream_refused"


def test_a_refusal_of_the_largest_size_is_passed_on() -> None:
    frame = len(b'{"error":{"message":""}}')
    body = {"error": {"message": "." * (MAX_REFUSAL_BYTES - frame)}}
    assert refused(json.dumps(body, separators=(",", ":")).encode()) == body


@pytest.mark.parametrize(
    "message",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Incorrect API key provided: {KEY[:16]}****.",
        f"as JSON: {json.dumps({'key': KEY})}",
        f"as a header: Bearer {KEY}",
        "the other one: " + SECRETS[1].decode(),
        "unlike any of ours: sk-proj-CANARYCANARYCANARY",
    ],
)
@pytest.mark.parametrize("escaped", [False, True])
def test_no_secret_gets_through(message: str, escaped: bool) -> None:
    body = {"error": {"message": message, "details": [{message: message}], "code": 5}, "x": message}
    text = json.dumps(body)
    if escaped:
        text = text.replace("CANARY", "".join(f"\\u{ord(letter):04x}" for letter in "CANARY"))
    read = refused(text.encode())
    assert "CANARY" not in json.dumps(read)
    assert "[redacted]" in read["error"]["message"]
    assert read["error"]["code"] == 5


# Values too short to share 8 bytes with a secret, or to look like a key.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=3))
def test_a_refusal_without_secrets_is_passed_on_with_equal_values(fields: dict[str, Any]) -> None:
    body = {**fields, "error": {"message": "No.", **fields}}
    assert refused(json.dumps(body).encode()) == body


@given(st.binary(max_size=40))
def test_junk_is_always_answered_with_an_error_object(junk: bytes) -> None:
    for body in (junk, b'{"error":{"message":"' + junk + b'"}}', b'{"error":{"x":' + junk + b"}}"):
        assert isinstance(refused(body)["error"], dict)
