"""Reads a generation request as the upstream does: the contract's checks, with its error codes.

Only fields that the contract limits are checked. Any other field is accepted.
"""

import re
from typing import Any

from aiohttp import web
from msgspec import DecodeError, Struct, json

from gateway.upstream.sandbox.responses import error_response

MODEL = "gpt-image-2"
MAX_PROMPT_CHARS = 32_000
MAX_N = 10
MAX_EDGE = 3_840
MIN_PIXELS, MAX_PIXELS = 655_360, 8_294_400

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class BadRequest(Exception):
    """The request is refused with this error and costs nothing. The text has no values in it."""

    def __init__(
        self, message: str, param: str | None, code: str | None, *, status: int = 400
    ) -> None:
        super().__init__(message)
        self._fields = (status, message, "invalid_request_error", code, param)

    @property
    def response(self) -> web.Response:
        """The error as a response."""
        return error_response(*self._fields)


class ImageCall(Struct, frozen=True):
    """A valid request, with `auto` and absent fields decided."""

    prompt: str
    n: int
    width: int
    height: int
    quality: str
    background: str
    output_format: str


def read_call(body: bytes) -> ImageCall:
    """Return the request in a body. Raises BadRequest."""
    fields = _fields(body)
    if _text(fields, "model") not in (None, MODEL):
        raise BadRequest("The model does not exist.", "model", "model_not_found")
    width, height = _edges(_text(fields, "size"))
    return ImageCall(
        prompt=_prompt(fields),
        n=_n(fields.get("n")),
        width=width,
        height=height,
        quality=_choice(fields, "quality", "medium", "low", "high"),
        background=_choice(fields, "background", "opaque", "transparent"),
        output_format=_choice(fields, "output_format", "png", "jpeg", "webp"),
    )


def _fields(body: bytes) -> dict[str, Any]:
    try:
        return json.decode(body, type=dict[str, Any])
    except (DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # Raised out here so that it does not carry the decoder's error.
    raise BadRequest("We could not parse the JSON body of your request.", None, "invalid_json")


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise BadRequest(f"Invalid type for '{name}': a string is expected.", name, "invalid_type")


def _choice(fields: dict[str, Any], name: str, default: str, *others: str) -> str:
    """Return the chosen value, or the default if the field is absent, null or "auto"."""
    value, choices = _text(fields, name), (default, *others)
    if value is None or value == "auto":
        return default
    if value not in choices:
        message = f"Invalid '{name}': use one of {', '.join(choices)}."
        raise BadRequest(message, name, "invalid_value")
    return value


def _prompt(fields: dict[str, Any]) -> str:
    prompt = _text(fields, "prompt")
    if prompt is None:
        message, code = "Missing required parameter: 'prompt'.", "missing_required_parameter"
    elif not prompt:
        message, code = "Invalid 'prompt': it is empty.", "empty_string"
    elif len(prompt) > MAX_PROMPT_CHARS:
        message = f"Invalid 'prompt': it may have at most {MAX_PROMPT_CHARS} characters."
        code = "string_above_max_length"
    else:
        return prompt
    raise BadRequest(message, "prompt", code)


def _n(n: object) -> int:
    if n is None:
        return 1
    # The exact type: True is an int in Python, and 1.0 is not an integer in the contract.
    if type(n) is not int:
        raise BadRequest("Invalid type for 'n': an integer is expected.", "n", "invalid_type")
    if not 1 <= n <= MAX_N:
        code = "integer_below_min_value" if n < 1 else "integer_above_max_value"
        raise BadRequest(f"Invalid 'n': use 1 to {MAX_N}.", "n", code)
    return n


def _edges(size: str | None) -> tuple[int, int]:
    """Return width and height in pixels."""
    if size is None or size == "auto":
        return 1024, 1024
    if match := _SIZE.fullmatch(size):
        width, height = int(match[1]), int(match[2])
        short, long = sorted((width, height))
        if (
            width % 16 == height % 16 == 0
            and long <= min(3 * short, MAX_EDGE)
            and MIN_PIXELS <= width * height <= MAX_PIXELS
        ):
            return width, height
    raise BadRequest(
        "Invalid 'size': use 'auto' or WIDTHxHEIGHT, both divisible by 16, a ratio from 1:3 to "
        f"3:1, no edge above {MAX_EDGE}, {MIN_PIXELS} to {MAX_PIXELS} pixels.",
        "size",
        "invalid_value",
    )
