"""Reads the upstream's 200: the number of images, their URLs, size and quality, and the usage.

Images are nearly all of a response. They are neither decoded nor copied. Plain base64 is cut out
before the rest is parsed: the parser takes 12 ms for 20 MB, which blocks all other requests, while
finding the ends of the images takes 2 ms.

The number of items is limited too, because 64 MB of tiny items would take the parser 40 s. A
response far beyond any real one is treated as unusable.
"""

import re

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from gateway.core.errors import UpstreamUnknown
from gateway.quota.token_usage import NO_USAGE, Usage, read_usage

MAX_IMAGES = 1_000
"""The most items in a response: as many as a request can ask for."""

MAX_OBJECTS = 20_000
"""The most opening braces in a response, including those in its strings."""

MAX_USAGE_BYTES = 16_384
MAX_WORD_BYTES = 256
"""Limits for `usage`, and for size and quality. A longer value is ignored."""

_IMAGE = b'"b64_json"'
_OPENING = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*"')
_NULL = Raw(b"null")


class ImageResponse(Struct, frozen=True):
    """The content of a response.

    `urls` has those of the images that have one. `size` and `quality` are None if the response
    does not name them.
    """

    images: int
    urls: tuple[str, ...]
    size: str | None
    quality: str | None
    usage: Usage = NO_USAGE


class _Item(Struct, frozen=True):
    b64_json: Raw = _NULL
    url: Raw = _NULL


class _Body(Struct, frozen=True):
    data: list[_Item]
    size: Raw = _NULL
    quality: Raw = _NULL
    usage: Raw = _NULL


_BODY = Decoder(_Body)
_TEXT = Decoder(str)
_ANYTHING = Decoder()


def read_response(body: bytes) -> ImageResponse:
    """Read a response. Each item with a `b64_json` or a `url` is one image.

    Raises UpstreamUnknown unless it is a response with at least one image.
    """
    answer = _parsed(_without_images(body))
    if len(answer.data) > MAX_IMAGES:
        raise UpstreamUnknown
    urls = [_text(item.url) for item in answer.data]
    images = sum(
        bool(url) or _is_filled(item.b64_json) for item, url in zip(answer.data, urls, strict=True)
    )
    if not images:
        raise UpstreamUnknown
    return ImageResponse(
        images,
        tuple(url for url in urls if url),
        _word(answer.size),
        _word(answer.quality),
        _usage(answer.usage),
    )


def _parsed(body: bytes) -> _Body:
    if body.count(b"{") > MAX_OBJECTS:
        raise UpstreamUnknown
    try:
        # As text, because the parser does not check the UTF-8 of values that it skips.
        return _BODY.decode(body.decode())
    except (UnicodeDecodeError, DecodeError, RecursionError):  # the last from deep nesting
        pass
    # Raised out here so that it does not carry the decoder's error.
    raise UpstreamUnknown


def _text(value: Raw) -> str | None:
    """Return the text of a field, or None if it is empty or not text."""
    if not _is_filled(value):
        return None
    try:
        return _TEXT.decode(value)
    except DecodeError:
        return None


def _word(value: Raw) -> str | None:
    return _text(value) if len(memoryview(value)) <= MAX_WORD_BYTES else None


def _usage(value: Raw) -> Usage:
    if len(memoryview(value)) > MAX_USAGE_BYTES:
        return NO_USAGE
    try:
        return read_usage(_ANYTHING.decode(value))
    except (DecodeError, RecursionError):
        return NO_USAGE


def _is_filled(value: Raw) -> bool:
    """Whether a field is text that is not empty."""
    head = bytes(memoryview(value)[:2])
    return head.startswith(b'"') and head != b'""'


def _without_images(body: bytes) -> bytes:
    """Replace each plain image with a dot. The rest stays byte for byte the same.

    If there are more than `MAX_IMAGES`, the last ones stay: the response is unusable anyway.
    """
    kept: list[bytes] = []
    done = at = 0
    for _ in range(MAX_IMAGES):
        at = body.find(_IMAGE, at)
        if at < 0:
            break
        at += len(_IMAGE)
        image = _plain_text(body, at)
        if image is not None:
            start, end = image
            kept += (body[done:start], b".")
            done = at = end
    kept.append(body[done:])
    return b"".join(kept)


def _plain_text(body: bytes, at: int) -> tuple[int, int] | None:
    """Return start and end of a field's text. The field's name ends at `at`.

    Returns None if there is no text, if it is empty, or if only a parser can read it.
    """
    opening = _OPENING.match(body, at)
    if opening is None:
        return None
    start = opening.end()
    end = body.find(b'"', start)
    if end <= start:
        return None
    # An escape may hide a quote, and JSON allows no line break in a string.
    if body.find(b"\\", start, end) >= 0 or body.find(b"\n", start, end) >= 0:
        return None
    return start, end
