"""Reads a generation request as the upstream does: the contract's checks, with its error codes.

Only fields that the contract limits are checked. Any other field is accepted.
"""

import re
from typing import Annotated, Any, Literal

from aiohttp import web
from msgspec import DecodeError, Meta, Struct, ValidationError, convert, json

from gateway.upstream.sandbox.responses import error_body

MODEL = "gpt-image-2"
MAX_EDGE = 3_840
MIN_PIXELS, MAX_PIXELS = 655_360, 8_294_400

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")

_CHECKS: tuple[tuple[str, Any, str], ...] = (
    *((name, str, "invalid_type") for name in ("model", "prompt", "size", "quality")),
    *((name, str, "invalid_type") for name in ("background", "output_format")),
    ("n", int, "invalid_type"),
    ("model", Literal["gpt-image-2"], "model_not_found"),
    ("prompt", Annotated[str, Meta(min_length=1)], "empty_string"),
    ("prompt", Annotated[str, Meta(max_length=32_000)], "string_above_max_length"),
    ("n", Annotated[int, Meta(ge=1)], "integer_below_min_value"),
    ("n", Annotated[int, Meta(le=10)], "integer_above_max_value"),
    ("quality", Literal["auto", "low", "medium", "high"], "invalid_value"),
    ("background", Literal["auto", "opaque", "transparent"], "invalid_value"),
    ("output_format", Literal["auto", "png", "jpeg", "webp"], "invalid_value"),
    ("stream", bool, "invalid_type"),
    ("partial_images", int, "invalid_type"),
    ("partial_images", Annotated[int, Meta(ge=0, le=3)], "invalid_value"),
)
"""Fields with their types, and the code of the error for any other value."""


class ImageCall(Struct, frozen=True):
    """A valid request, with `auto` and absent fields decided."""

    prompt: str
    width: int
    height: int
    n: int = 1
    quality: str = "medium"
    background: str = "opaque"
    output_format: str = "png"
    stream: bool = False
    partial_images: int = 0


def read_call(body: bytes) -> ImageCall:
    """Return the request in a body. Raises a refusal."""
    try:
        fields = json.decode(body, type=dict[str, Any])
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise refusal("The body is not a JSON object.", None, "invalid_json") from None
    fields = {name: value for name, value in fields.items() if value is not None}
    for name, type, code in _CHECKS:
        try:
            convert(fields.get(name), type | None)
        except ValidationError:
            raise refusal(f"The value of '{name}' is invalid.", name, code) from None
    if "prompt" not in fields:
        message = "Missing required parameter: 'prompt'."
        raise refusal(message, "prompt", "missing_required_parameter")
    chosen = {name: value for name, value in fields.items() if value != "auto"}
    width, height = _edges(chosen.get("size", "1024x1024"))
    given = {"prompt": fields["prompt"], "width": width, "height": height}
    if not fields.get("stream"):
        given["partial_images"] = 0
    return convert({**chosen, **given}, ImageCall)


def refusal(
    message: str,
    param: str | None,
    code: str,
    kind: type[web.HTTPClientError] = web.HTTPBadRequest,
) -> web.HTTPClientError:
    """Return the error of a request that is refused and costs nothing. It repeats no value."""
    error = error_body(message, "invalid_request_error", code, param)
    return kind(text=error.decode(), content_type="application/json")


def _edges(size: str) -> tuple[int, int]:
    """Return width and height in pixels."""
    if match := _SIZE.fullmatch(size):
        width, height = int(match[1]), int(match[2])
        short, long = sorted((width, height))
        if (
            width % 16 == height % 16 == 0
            and long <= min(3 * short, MAX_EDGE)
            and MIN_PIXELS <= width * height <= MAX_PIXELS
        ):
            return width, height
    raise refusal(
        "Invalid 'size': use 'auto' or WIDTHxHEIGHT, both divisible by 16, a ratio from 1:3 to "
        f"3:1, no edge above {MAX_EDGE}, {MIN_PIXELS} to {MAX_PIXELS} pixels.",
        "size",
        "invalid_value",
    )
