"""The contract's checks of a request, with the codes of its errors."""

import json
from typing import Any

import pytest
from aiohttp import web

from gateway.upstream.sandbox.requests import read_call


def refused(body: bytes) -> tuple[str, str | None]:
    """Return the code and the field of a refusal, which repeats nothing of the request."""
    with pytest.raises(web.HTTPBadRequest) as caught:
        read_call(body)
    assert caught.value.text is not None
    assert "CANARY" not in caught.value.text
    error = json.loads(caught.value.text)["error"]
    assert error["type"] == "invalid_request_error"
    return error["code"], error["param"]


SIZES = [
    *("", "large", "1024", "1024X1024", "1024x1024 ", "01024x1024", "-1024x1024"),
    *("1024x1025", "1000x1000", "512x512", "3856x2160", "3840x3840", "3088x1024"),
    *("800x800", "0x0", "99999999x1024", "\u0661024x1024", "1024x1024\n"),
]
REFUSED: list[tuple[str, str, list[Any]]] = [
    ("model", "model_not_found", ["gpt-image-1"]),
    ("model", "invalid_type", [2]),
    ("prompt", "missing_required_parameter", [None]),
    ("prompt", "empty_string", [""]),
    ("prompt", "invalid_type", [["CANARY"]]),
    ("prompt", "string_above_max_length", ["a" * 32_001]),
    ("size", "invalid_value", SIZES),
    ("size", "invalid_type", [1024]),
    ("n", "integer_below_min_value", [0]),
    ("n", "integer_above_max_value", [11, 10**30]),
    ("n", "invalid_type", [1.0, 1.5, "1", True, [1]]),
    ("stream", "invalid_type", [1, "true"]),
    ("partial_images", "invalid_value", [-1, 4]),
    ("partial_images", "invalid_type", [1.5, True]),
    *((name, "invalid_value", ["CANARY"]) for name in ("quality", "background", "output_format")),
]


@pytest.mark.parametrize(("name", "code", "values"), REFUSED)
def test_an_invalid_field_is_refused_by_name(name: str, code: str, values: list[Any]) -> None:
    for value in values:
        assert refused(json.dumps({"prompt": "CANARY", name: value}).encode()) == (code, name)


def test_the_limits_themselves_are_accepted() -> None:
    assert read_call(b'{"prompt":"%s"}' % (b"a" * 32_000)).n == 1
    assert read_call(b'{"prompt":" ","n":10}').n == 10
    for size in ("3840x2160", "2160x3840", "3072x1024", "1024x640"):
        call = read_call(json.dumps({"prompt": "auto", "size": size}).encode())
        assert (call.prompt, f"{call.width}x{call.height}") == ("auto", size)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b'"a"', b'{"prompt":NaN}', b'{"prompt":"\xff"}', b"\xfe\xff"),
        *(b'{"prompt":"a"} x', b'{"a":' * 100_000, b'{"prompt":"\\ud800"}', b"PROMPT-CANARY"),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes) -> None:
    assert refused(body) == ("invalid_json", None)
