"""A request is read with its defaults, or refused with the field and the cause."""

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


@pytest.mark.parametrize("n", [1, 2, 10])
def test_n_in_range(n: int) -> None:
    assert read({"prompt": "a cat", "n": n}).n == n


@pytest.mark.parametrize(
    ("n", "code"),
    [
        ("0", "integer_below_min_value"),
        ("-1", "integer_below_min_value"),
        ("-0", "integer_below_min_value"),
        ("11", "integer_above_max_value"),
        ("1000000000", "integer_above_max_value"),
        ("9" * 4000, "integer_above_max_value"),
        ("1e9", "invalid_type"),
        ("1e0", "invalid_type"),
        ("1.0", "invalid_type"),
        ("1.5", "invalid_type"),
        ('"1"', "invalid_type"),
        ('""', "invalid_type"),
        ("true", "invalid_type"),
        ("false", "invalid_type"),
        ("[]", "invalid_type"),
        ("[1]", "invalid_type"),
        ("{}", "invalid_type"),
    ],
)
def test_n_refused(n: str, code: str) -> None:
    error = refusal(f'{{"prompt":"a cat","n":{n}}}'.encode())
    assert (error.param, error.code) == ("n", code)
    assert error.message == "n must be a whole number from 1 to 10."


@pytest.mark.parametrize("size", ["auto", "1024x1024", "1024x1536", "3840x2160", "1536x512"])
def test_size_possible(size: str) -> None:
    assert read({"prompt": "a cat", "size": size}).size == size


@pytest.mark.parametrize(
    ("size", "code"),
    [
        ("", "invalid_value"),
        ("AUTO", "invalid_value"),
        ("1024", "invalid_value"),
        ("1024X1024", "invalid_value"),
        ("1024x1024 ", "invalid_value"),
        ("1024x1024\n", "invalid_value"),
        ("01024x1024", "invalid_value"),
        ("1024x1000", "invalid_value"),
        ("16x16", "invalid_value"),
        ("3856x1600", "invalid_value"),
        ("3840x3840", "invalid_value"),
        ("2048x512", "invalid_value"),
        ("\u0661024x1024", "invalid_value"),
        (1024, "invalid_type"),
        (False, "invalid_type"),
        ([], "invalid_type"),
        ({}, "invalid_type"),
    ],
)
def test_size_refused(size: object, code: str) -> None:
    error = refusal({"prompt": "a cat", "size": size})
    assert (error.param, error.code) == ("size", code)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("", "model_not_found"),
        ("gpt-image-1", "model_not_found"),
        ("GPT-IMAGE-2", "model_not_found"),
        ("gpt-image-2 ", "model_not_found"),
        (2, "invalid_type"),
        ([], "invalid_type"),
        ({}, "invalid_type"),
        (True, "invalid_type"),
    ],
)
def test_model_refused(model: object, code: str) -> None:
    error = refusal({"prompt": "a cat", "model": model})
    assert (error.param, error.code) == ("model", code)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "missing_required_parameter"),
        ({"prompt": None}, "missing_required_parameter"),
        ({"prompt": ""}, "empty_string"),
        ({"prompt": " \t\n\u00a0\u3000"}, "empty_string"),
        ({"prompt": "x" * 32_001}, "string_above_max_length"),
        ({"prompt": " " * 32_001}, "string_above_max_length"),
        ({"prompt": 1}, "invalid_type"),
        ({"prompt": ["a cat"]}, "invalid_type"),
        ({"prompt": {"text": "a cat"}}, "invalid_type"),
        ({"prompt": False}, "invalid_type"),
    ],
)
def test_prompt_refused(fields: dict[str, Any], code: str) -> None:
    error = refusal(fields)
    assert (error.param, error.code) == ("prompt", code)


@pytest.mark.parametrize(
    "prompt", ["x", " x ", "x" * 32_000, "\U0001f600" * 32_000, "e\u0301", "\x00", "\u200b"]
)
def test_prompt_passes_as_it_is(prompt: str) -> None:
    request = read({"prompt": prompt})
    assert request.prompt == prompt
    assert json.loads(encode_body(request))["prompt"] == prompt


@pytest.mark.parametrize("quality", ["low", "high", "auto", "hd", ""])
def test_quality_is_any_text(quality: str) -> None:
    assert read({"prompt": "a cat", "quality": quality}).quality == quality


@pytest.mark.parametrize("quality", [1, True, False, [], {}, 0.5])
def test_quality_refused(quality: object) -> None:
    error = refusal({"prompt": "a cat", "quality": quality})
    assert (error.param, error.code) == ("quality", "invalid_type")


@pytest.mark.parametrize("stream", [True, 0, 1, 0.0, "", "false", [], {}])
def test_stream_refused(stream: object) -> None:
    error = refusal({"prompt": "a cat", "stream": stream})
    assert (error.param, error.code) == ("stream", "unsupported_parameter")


@pytest.mark.parametrize("stream", ["false", "null"])
def test_no_stream_passes(stream: str) -> None:
    request = read(f'{{"prompt":"a cat","stream":{stream}}}'.encode())
    assert f'"stream":{stream}'.encode() in encode_body(request)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"prompt":"a","prompt":"b"}', b'{"prompt":"a","x":[NaN]}', b"{"]
)
def test_broken_json_is_refused(body: bytes) -> None:
    assert refusal(body).param is None


@pytest.mark.parametrize(
    "fields",
    [
        {"n": "CANARY"},
        {"size": "CANARY"},
        {"model": "CANARY"},
        {"quality": ["CANARY"]},
        {"stream": "CANARY"},
        {"prompt": ["CANARY"]},
    ],
)
def test_nothing_that_the_client_wrote_is_repeated(fields: dict[str, Any]) -> None:
    error = refusal({"prompt": "CANARY", "CANARY": "CANARY", **fields})
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
def test_what_is_sent_reads_as_what_came(fields: dict[str, Any], prompt: str) -> None:
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
def test_names_that_differ_in_case_alone_are_refused(body: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(body.encode(), {GPT_IMAGE_2.name: GPT_IMAGE_2}, GPT_IMAGE_2.name)
    assert (caught.value.code, caught.value.param) == ("duplicate_key", param)


def test_names_in_a_case_of_their_own_pass() -> None:
    body = b'{"prompt":"p","user":"a","User":"b","Style":{"N":1,"n":2}}'
    request = read_request(body, {GPT_IMAGE_2.name: GPT_IMAGE_2}, GPT_IMAGE_2.name)
    assert (request.body["User"], request.body["Style"]) == ("b", {"N": 1, "n": 2})
