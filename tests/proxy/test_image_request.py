"""Reading a request: defaults are filled in, and errors name the field and the cause."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.config.models import GPT_IMAGE_2, Model, RequestDefaults, Rewrite, SizeRules
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
    ("response_format", "invalid_value", ['"URL"', '"b64"', '"b64_json "', '""', "true", "0"]),
    ("response_format", "invalid_value", ['["url"]', "{}", "1.0"]),
    ("stream", "invalid_type", ["0", "1", "0.0", '""', '"false"', "[]", "{}"]),
    ("partial_images", "invalid_type", ["1.0", '"1"', "true", "false", "[1]", "{}"]),
    ("partial_images", "integer_below_min_value", ["-1"]),
    ("partial_images", "integer_above_max_value", ["4"]),
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


@pytest.mark.parametrize(
    "field",
    [*("n", "size", "model", "quality", "stream", "partial_images", "response_format", "prompt")],
)
def test_errors_repeat_nothing_that_the_client_wrote(field: str) -> None:
    value = ["CANARY"] if field in ("quality", "prompt") else "CANARY"
    error = refusal({"prompt": "CANARY", "CANARY": "CANARY", field: value})
    assert "CANARY" not in repr(vars(error))


@pytest.mark.parametrize("value", ["url", "b64_json", None])
def test_the_form_of_pictures_is_read_and_only_sent_where_the_upstream_takes_it(
    value: str | None,
) -> None:
    body = json.dumps({"response_format": value, "prompt": "a cat"}).encode()
    plain = read({"prompt": "a cat"})
    taken_off = read(body)
    assert taken_off.response_format == value
    assert encode_body(taken_off) == encode_body(plain)
    sent = read_request(body, MODELS, "gpt-image-2", sends_format=True)
    assert sent.response_format == value
    assert json.loads(encode_body(sent)) == {**plain.body, "response_format": value}


@pytest.mark.parametrize("partial", [None, 0, 3])
@pytest.mark.parametrize("stream", [True, False, None])
def test_a_stream_is_read_and_taken_off(stream: bool | None, partial: int | None) -> None:
    plain = read({"prompt": "a cat"})
    request = read({"partial_images": partial, "prompt": "a cat", "stream": stream})
    assert request.stream == (stream is True)
    assert encode_body(request) == encode_body(plain)


@pytest.mark.parametrize("partial", [None, 0, 3])
def test_a_stream_is_sent_where_the_upstream_takes_it(partial: int | None) -> None:
    plain = read({"prompt": "a cat"})

    def sent(stream: bool | None) -> ImageRequest:
        fields = {"prompt": "a cat", "stream": stream, "partial_images": partial}
        return read_request(json.dumps(fields).encode(), MODELS, "gpt-image-2", sends_stream=True)

    for stream in (False, None):
        assert (encode_body(sent(stream)), sent(stream).partial_images) == (encode_body(plain), 0)
    request = sent(True)
    assert request.partial_images == (partial or 0)
    own = {"stream": True, "partial_images": partial}
    assert json.loads(encode_body(request)) == {**plain.body, **own}
    assert read({"prompt": "a cat", **own}).partial_images == 0


DALL_E = replace(
    GPT_IMAGE_2,
    aliases=("dall-e-3", "dall-e-2"),
    rewrite=Rewrite(
        quality={"standard": "medium", "hd": "high", "high": "low"},
        size={"512x512": "1024x1024", "1024x1024": "1536x1024"},
        drop=("style",),
    ),
)


def read_rewritten(fields: dict[str, Any]) -> ImageRequest:
    models = {"gpt-image-2": DALL_E, "small": SMALL}
    return read_request(json.dumps({"prompt": "a cat", **fields}).encode(), models, "gpt-image-2")


def test_what_clients_have_built_in_is_replaced_in_its_place_and_once() -> None:
    request = read_rewritten(
        {"style": "vivid", "quality": "hd", "model": "dall-e-3", "size": "512x512", "n": 1, "x": 1}
    )
    assert (request.model, request.size, request.quality) == ("gpt-image-2", "1024x1024", "high")
    assert encode_body(request) == (
        b'{"prompt":"a cat","quality":"high","model":"gpt-image-2","size":"1024x1024","n":1,"x":1}'
    )


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"size": "512x512 "}, "invalid_value"),
        ({"size": ["512x512"]}, "invalid_type"),
        ({"quality": {"hd": "hd"}}, "invalid_type"),
        ({"Quality": "hd"}, "duplicate_key"),
        ({"model": "DALL-E-3"}, "model_not_found"),
        ({"model": "small", "size": "1024x1024"}, "invalid_value"),
    ],
)
def test_what_no_rule_names_is_read_as_before(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_rewritten(fields)
    assert caught.value.code == code
    assert read_rewritten({"quality": "HD", "Style": "vivid"}).body["quality"] == "HD"
    assert read_rewritten({"quality": None}).quality is None
    assert read_rewritten({}).size == "1024x1024", "a default is no value of the client"


OURS = {"model", "prompt", "size", "n", "quality", "stream", "partial_images", "response_format"}
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
        ('{"prompt":"p","Partial_Images":3}', "partial_images"),
        ('{"PROMPT":"p"}', "prompt"),
    ],
)
def test_our_field_names_in_another_case_are_refused(body: str, param: str) -> None:
    error = refusal(body.encode())
    assert (error.code, error.param) == ("duplicate_key", param)


def test_other_field_names_may_have_any_case() -> None:
    request = read(b'{"prompt":"p","user":"a","User":"b","Style":{"N":1,"n":2}}')
    assert (request.body["User"], request.body["Style"]) == ("b", {"N": 1, "n": 2})
