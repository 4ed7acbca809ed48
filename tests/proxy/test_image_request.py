"""Reading a request: defaults are filled in, and errors name the field and the cause."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.config.models import GPT_IMAGE_2, Model, RequestDefaults, SizeRules
from gateway.core.errors import InvalidRequest
from gateway.core.model import ImageRequest
from gateway.proxy.image_request import encode_body, read_request
from tests.support.json_values import names, values

SMALL = replace(
    GPT_IMAGE_2,
    name="small",
    max_n=2,
    max_prompt_chars=5,
    defaults=RequestDefaults(n=2, size="auto"),
    sizes=SizeRules(allowed=("512x512",)),
)
MODELS: dict[str, Model] = {"gpt-image-2": GPT_IMAGE_2, "small": SMALL}


def read(body: bytes | dict[str, Any]) -> ImageRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_request(data, MODELS, "gpt-image-2")


def refusal(body: bytes | dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (
            b'{"user":"u","prompt":"a cat"}',
            b'{"user":"u","prompt":"a cat","model":"gpt-image-2","size":"1024x1024","n":1}',
        ),
        (
            b'{"n":null,"size":null,"model":null,"prompt":"a cat","quality":null}',
            b'{"n":1,"size":"1024x1024","model":"gpt-image-2","prompt":"a cat","quality":null}',
        ),
    ],
    ids=["absent, at the end", "null, in place"],
)
def test_defaults_are_filled_in(body: bytes, sent: bytes) -> None:
    request = read(body)
    assert encode_body(request) == sent
    assert (request.model, request.prompt, request.size) == ("gpt-image-2", "a cat", "1024x1024")
    assert (request.n, request.quality) == (1, None)


def test_defaults_and_bounds_are_the_models_own() -> None:
    request = read({"prompt": "a cat", "model": "small"})
    assert (request.model, request.size, request.n) == ("small", "auto", 2)
    assert "from 1 to 2" in refusal({"prompt": "a cat", "model": "small", "n": 3}).message
    assert "5 characters" in refusal({"prompt": "a wolf", "model": "small"}).message
    assert refusal({"prompt": "a", "model": "small", "size": "1024x1024"}).param == "size"


ACCEPTED: list[tuple[str, list[Any]]] = [
    ("n", [1, 2, 10]),
    ("size", ["auto", "1024x1024", "1024x1536", "3840x2160", "1536x512"]),
    ("quality", ["low", "high", "auto", "hd", ""]),
    ("stream", [False, None]),
    ("prompt", ["x", " x ", "x" * 32_000, "\U0001f600" * 32_000, "e\u0301", "\x00", "\u200b"]),
]


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in ACCEPTED for value in values],
    ids=lambda value: str(value)[:20],
)
def test_accepted_values_are_sent_as_they_are(field: str, value: Any) -> None:
    request = read({"prompt": "a cat", field: value})
    sent = json.loads(encode_body(request))[field]
    assert (sent, type(sent)) == (value, type(value))
    if field != "stream":
        assert getattr(request, field) == value


WRONG_TYPES = ["1", "true", "[]", "{}", "0.5"]
REFUSED: list[tuple[str, str, list[str]]] = [
    ("n", "integer_below_min_value", ["0", "-1", "-0"]),
    ("n", "integer_above_max_value", ["11", "9" * 4000]),
    ("n", "invalid_type", ["1e9", "1.0", "1.5", '"1"', '""', "true", "false", "[1]", "{}"]),
    ("size", "invalid_type", WRONG_TYPES),
    ("size", "invalid_value", ['""', '"AUTO"', '"1024"', '"1024X1024"', '"1024x1024 "']),
    ("size", "invalid_value", ['"1024x1024\\n"', '"01024x1024"', '"\u0661024x1024"']),
    ("size", "invalid_value", ['"1024x1000"', '"16x16"', '"3856x1600"', '"3840x3840"']),
    ("model", "invalid_type", WRONG_TYPES),
    ("model", "model_not_found", ['""', '"gpt-image-1"', '"GPT-IMAGE-2"', '"gpt-image-2 "']),
    ("prompt", "invalid_type", WRONG_TYPES),
    ("prompt", "missing_required_parameter", ["null", ""]),
    ("prompt", "empty_string", ['""', '" \\t\\n\u00a0\u3000"']),
    ("prompt", "string_above_max_length", [f'"{"x" * 32_001}"', f'"{" " * 32_001}"']),
    ("quality", "invalid_type", WRONG_TYPES),
    ("stream", "unsupported_parameter", ["true", "0", "1", "0.0", '""', '"false"', "[]", "{}"]),
]


@pytest.mark.parametrize(
    ("field", "code", "value"),
    [(field, code, value) for field, code, values in REFUSED for value in values],
    ids=lambda text: text[:20],
)
def test_refused_values_have_a_code_for_their_cause(field: str, code: str, value: str) -> None:
    prompt = "" if field == "prompt" else '"prompt":"a cat",'
    error = refusal(f'{{{prompt}"{field}":{value}}}'.encode() if value else b"{}")
    assert (error.param, error.code) == (field, code)


@pytest.mark.parametrize(
    "body", [b"[]", b'{"prompt":"a","prompt":"b"}', b'{"prompt":"a","x":[NaN]}']
)
def test_broken_json_is_refused(body: bytes) -> None:
    assert refusal(body).param is None


@pytest.mark.parametrize("field", ["n", "size", "model", "quality", "stream", "prompt"])
def test_errors_repeat_nothing_that_the_client_wrote(field: str) -> None:
    value = ["CANARY"] if field in ("quality", "prompt") else "CANARY"
    error = refusal({"prompt": "CANARY", "CANARY": "CANARY", field: value})
    assert "CANARY" not in repr(vars(error))


OURS = {"model", "prompt", "size", "n", "quality", "stream"}
further_names = names.filter(lambda name: name.casefold() not in OURS)


@given(st.dictionaries(further_names, values, max_size=5), names)
def test_the_sent_body_reads_like_the_received_one(fields: dict[str, Any], prompt: str) -> None:
    request = read({**fields, "prompt": f"a{prompt}"})
    filled = {"model": "gpt-image-2", "size": "1024x1024", "n": 1}
    expected = {**fields, "prompt": f"a{prompt}", **filled}
    sent = json.loads(encode_body(request))
    assert repr(sent) == repr(expected)
    assert read(encode_body(request)) == request


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"prompt":"p","quality":"low","Quality":"high"}', "quality"),
        ('{"prompt":"p","N":10}', "n"),
        ('{"prompt":"p","\u017fize":"3840x2160"}', "size"),
        ('{"prompt":"p","\\u017ftream":true}', "stream"),
        ('{"PROMPT":"p"}', "prompt"),
    ],
)
def test_our_field_names_in_another_case_are_refused(body: str, param: str) -> None:
    error = refusal(body.encode())
    assert (error.code, error.param) == ("duplicate_key", param)


def test_other_field_names_may_have_any_case() -> None:
    request = read(b'{"prompt":"p","user":"a","User":"b","Style":{"N":1,"n":2}}')
    assert (request.body["User"], request.body["Style"]) == ("b", {"N": 1, "n": 2})
