"""Reading a request: defaults are filled in, and errors name the field and the cause."""

import json
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.config.models import GPT_IMAGE_2, Model, SizeRules
from gateway.core.errors import InvalidRequest
from gateway.core.model import ImageRequest
from gateway.proxy.image_request import encode_body, read_request

SMALL = replace(
    GPT_IMAGE_2,
    name="small",
    max_n=2,
    default_n=2,
    max_prompt_chars=5,
    default_size="auto",
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


def test_the_example_of_the_upstreams_documentation() -> None:
    body = {
        "model": "gpt-image-2",
        "prompt": "A simple red apple on a white table, photorealistic",
        "size": "1024x1024",
        "n": 1,
    }
    request = read(body)
    assert request == ImageRequest(
        model="gpt-image-2",
        prompt=body["prompt"],  # type: ignore[arg-type]
        size="1024x1024",
        n=1,
        quality=None,
        body=body,
    )
    assert encode_body(request) == json.dumps(body, separators=(",", ":")).encode()


def test_absent_fields_get_their_defaults_at_the_end() -> None:
    request = read(b'{"user":"u","prompt":"a cat"}')
    assert (request.model, request.size, request.n) == ("gpt-image-2", "1024x1024", 1)
    assert encode_body(request) == (
        b'{"user":"u","prompt":"a cat","model":"gpt-image-2","size":"1024x1024","n":1}'
    )


def test_null_fields_get_their_defaults_in_place() -> None:
    request = read(b'{"n":null,"size":null,"x":null,"model":null,"prompt":"a cat","quality":null}')
    assert encode_body(request) == (
        b'{"n":1,"size":"1024x1024","x":null,"model":"gpt-image-2","prompt":"a cat","quality":null}'
    )
    assert request.quality is None


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
]


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in ACCEPTED for value in values]
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
    ("prompt", "missing_required_parameter", ["null"]),
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
    error = refusal(f'{{{prompt}"{field}":{value}}}'.encode())
    assert (error.param, error.code) == (field, code)


def test_a_prompt_is_required_and_n_has_a_range() -> None:
    error = refusal({})
    assert (error.param, error.code) == ("prompt", "missing_required_parameter")
    error = refusal({"prompt": "a cat", "n": 0})
    assert error.message == "n must be a whole number from 1 to 10."


@pytest.mark.parametrize(
    "prompt", ["x", " x ", "x" * 32_000, "\U0001f600" * 32_000, "e\u0301", "\x00", "\u200b"]
)
def test_a_prompt_is_not_changed(prompt: str) -> None:
    request = read({"prompt": prompt})
    assert request.prompt == prompt
    assert json.loads(encode_body(request))["prompt"] == prompt


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"prompt":"a","prompt":"b"}', b'{"prompt":"a","x":[NaN]}', b"{"]
)
def test_broken_json_is_refused(body: bytes) -> None:
    assert refusal(body).param is None


@pytest.mark.parametrize("field", ["n", "size", "model", "quality", "stream", "prompt"])
def test_errors_repeat_nothing_that_the_client_wrote(field: str) -> None:
    value = ["CANARY"] if field in ("quality", "prompt") else "CANARY"
    error = refusal({"prompt": "CANARY", "CANARY": "CANARY", field: value})
    assert "CANARY" not in repr(vars(error))


def test_further_fields_pass_with_equal_value_and_order() -> None:
    fields = (
        '{"z":null,"prompt":"a","a":[1,1.0,true,"1",{"k":{}}],"big":' + "9" * 4000 + ","
        '"f":1e-7,"é":"\U0001f600","model":"gpt-image-2","size":"auto","n":1}'
    )
    request = read(fields.encode())
    sent = encode_body(request).decode()
    assert json.loads(sent) == json.loads(fields)
    assert sent == fields.replace("1e-7", "1e-07")


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
leaves = st.none() | st.booleans() | st.integers() | names | st.floats(allow_nan=False)
values = st.recursive(
    leaves.filter(lambda leaf: leaf not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)
OURS = {"model", "prompt", "size", "n", "quality", "stream"}
further = st.dictionaries(
    names.filter(lambda name: name.casefold() not in OURS), values, max_size=5
)


@given(further, names)
def test_the_sent_body_reads_like_the_received_one(fields: dict[str, Any], prompt: str) -> None:
    request = read({**fields, "prompt": f"a{prompt}"})
    filled = {"model": "gpt-image-2", "size": "1024x1024", "n": 1}
    expected = {**fields, "prompt": f"a{prompt}", **filled}
    sent = json.loads(encode_body(request))
    assert repr(sent) == repr(expected)
    assert read(encode_body(request)) == request


def test_a_typical_body_is_read_in_microseconds() -> None:
    body = json.dumps({"prompt": "An apple, photorealistic. " * 5, "quality": "high"}).encode()
    started = perf_counter()
    for _ in range(1000):
        read(body)
    # Measured at 5 us; the bound leaves room for a busy machine.
    assert (perf_counter() - started) / 1000 < 200e-6


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
