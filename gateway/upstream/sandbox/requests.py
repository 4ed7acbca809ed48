"""Reading a request as the upstream does: the contract's checks, in the upstream's own codes.

Only what the contract bounds is checked; any further field is taken as it comes.
"""

import re
from typing import Any

from msgspec import DecodeError, Struct, json

from gateway.upstream.sandbox.errors import Refused

MODEL = "gpt-image-2"
MAX_PROMPT_CHARS = 32_000
MAX_N = 10
MAX_EDGE = 3_840
MIN_PIXELS, MAX_PIXELS = 655_360, 8_294_400

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class Asked(Struct, frozen=True):
    """A valid request, with `auto` and what was left out decided."""

    prompt: str
    n: int
    width: int
    height: int
    quality: str
    background: str
    output_format: str


def read_asked(body: bytes) -> Asked:
    """The request in a body. Raises Refused."""
    fields = _fields(body)
    if _text(fields, "model") not in (None, MODEL):
        raise Refused("The model does not exist.", "model", "model_not_found")
    width, height = _edges(_text(fields, "size"))
    return Asked(
        prompt=_prompt(fields),
        n=_n(fields.get("n")),
        width=width,
        height=height,
        quality=_choice(fields, "quality", ("low", "medium", "high"), "medium"),
        background=_choice(fields, "background", ("opaque", "transparent"), "opaque"),
        output_format=_choice(fields, "output_format", ("png", "jpeg", "webp"), "png"),
    )


def _fields(body: bytes) -> dict[str, Any]:
    try:
        return json.decode(body, type=dict[str, Any])
    except (DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # Raised out here so that it does not carry the decoder's error.
    raise Refused("We could not parse the JSON body of your request.", None, "invalid_json")


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise Refused(f"Invalid type for '{name}': a string is expected.", name, "invalid_type")


def _choice(fields: dict[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    """One of `choices`; `default` where the field is absent, null or "auto"."""
    value = _text(fields, name)
    if value is None or value == "auto":
        return default
    if value not in choices:
        raise Refused(f"Invalid '{name}': use one of {', '.join(choices)}.", name, "invalid_value")
    return value


def _prompt(fields: dict[str, Any]) -> str:
    prompt = _text(fields, "prompt")
    if prompt is None:
        raise Refused(
            "Missing required parameter: 'prompt'.", "prompt", "missing_required_parameter"
        )
    if not prompt:
        raise Refused("Invalid 'prompt': it is empty.", "prompt", "empty_string")
    if len(prompt) > MAX_PROMPT_CHARS:
        raise Refused(
            f"Invalid 'prompt': it may have at most {MAX_PROMPT_CHARS} characters.",
            "prompt",
            "string_above_max_length",
        )
    return prompt


def _n(n: object) -> int:
    if n is None:
        return 1
    # The exact type: True is an int to Python, and 1.0 is no integer of the contract.
    if type(n) is not int:
        raise Refused("Invalid type for 'n': an integer is expected.", "n", "invalid_type")
    if not 1 <= n <= MAX_N:
        code = "integer_below_min_value" if n < 1 else "integer_above_max_value"
        raise Refused(f"Invalid 'n': use 1 to {MAX_N}.", "n", code)
    return n


def _edges(size: str | None) -> tuple[int, int]:
    """Width and height in pixels."""
    if size is None or size == "auto":
        return 1024, 1024
    match = _SIZE.fullmatch(size)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not _possible(width, height):
        raise Refused(
            "Invalid 'size': use 'auto' or WIDTHxHEIGHT, both divisible by 16, a ratio from 1:3 to "
            f"3:1, no edge above {MAX_EDGE}, {MIN_PIXELS} to {MAX_PIXELS} pixels.",
            "size",
            "invalid_value",
        )
    return width, height


def _possible(width: int, height: int) -> bool:
    short, long = sorted((width, height))
    return (
        width % 16 == height % 16 == 0
        and long <= min(3 * short, MAX_EDGE)
        and MIN_PIXELS <= width * height <= MAX_PIXELS
    )
