"""Reading a request as the upstream does: the contract's checks, in its own words."""

import re
from typing import Any

from msgspec import DecodeError, Struct, json

from gateway.upstream.sandbox.faults import error

MODEL = "gpt-image-2"
MAX_PROMPT_CHARS = 32_000
MAX_N = 10

_SIZE = re.compile(r"([1-9][0-9]{2,4})x([1-9][0-9]{2,4})")


class Asked(Struct, frozen=True):
    """A valid request."""

    prompt: str
    n: int
    size: str
    quality: str
    fields: dict[str, Any]

    @property
    def edges(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, _, height = self.size.partition("x")
        return int(width), int(height)


class Refused(Exception):
    """The request is not valid: `body` says why."""

    def __init__(self, message: str, param: str | None, code: str) -> None:
        super().__init__(message)
        self.body = error(message, "invalid_request_error", code, param)


def read_asked(body: bytes) -> Asked:
    """The request in a body. Raises Refused."""
    try:
        fields = json.decode(body, type=dict[str, Any])
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("We could not parse the JSON body.", None, "invalid_json") from None
    if fields.get("model", MODEL) != MODEL:
        raise Refused("The model does not exist.", "model", "model_not_found")
    prompt, n = fields.get("prompt"), fields.get("n", 1)
    if not isinstance(prompt, str) or not 1 <= len(prompt) <= MAX_PROMPT_CHARS:
        raise Refused("Invalid 'prompt'.", "prompt", "invalid_value")
    if type(n) is not int or not 1 <= n <= MAX_N:
        raise Refused("Invalid 'n'.", "n", "invalid_value")
    return Asked(prompt, n, _size(fields.get("size")), _quality(fields.get("quality")), fields)


def _size(size: object) -> str:
    if size in (None, "auto"):
        return "1024x1024"
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None or not _possible(int(match[1]), int(match[2])):
        raise Refused("Invalid 'size'.", "size", "invalid_value")
    return match[0]


def _possible(width: int, height: int) -> bool:
    short, long = sorted((width, height))
    whole = width % 16 == 0 and height % 16 == 0
    return whole and long <= 3 * short and long <= 3840 and 655_360 <= width * height <= 8_294_400


def _quality(quality: object) -> str:
    if quality in (None, "auto"):
        return "medium"
    if quality not in ("low", "medium", "high"):
        raise Refused("Invalid 'quality'.", "quality", "invalid_value")
    return str(quality)
