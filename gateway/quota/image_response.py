"""Reading the upstream's 200: how many images came, where they lie, what it says of them and of
the tokens they took.

Images make nearly all of an answer. They are neither decoded nor copied, and where they are plain
base64 they are cut out before the rest is parsed: the parser takes 12 ms for 20 MB, during which
nobody else is served, finding their ends takes 2 ms.

An answer is bounded by more than its bytes: 64 MB of tiny items would take the parser 40 s. What
no real answer comes near is taken for none.
"""

import re

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from gateway.core.errors import UpstreamUnknown
from gateway.quota.token_usage import NO_USAGE, Usage, read_usage

MAX_IMAGES = 1_000
"""Items of an answer that are looked at: as many as a request can ask for. More are no answer."""

MAX_OBJECTS = 20_000
"""Braces that may open in an answer, those within its texts included."""

MAX_USAGE_BYTES = 16_384
MAX_WORD_BYTES = 256
"""Of a size and a quality. What is longer than these says nothing."""

_IMAGE = b'"b64_json"'
_BLANKS = re.compile(rb"[ \t\r\n]*")
_NULL = Raw(b"null")


class Answered(Struct, frozen=True):
    """What an answer delivers. `urls` are those of the images that have one; `size` and `quality`
    are the answer's own words, None where it has none; `usage` is what it says of tokens.
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


def read_answer(body: bytes) -> Answered:
    """What the upstream's 200 delivers: each item with a `b64_json` or a `url` is one image.

    Raises UpstreamUnknown for what is no answer with at least one image.
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
    return Answered(
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
        # As text, because the parser does not look for invalid UTF-8 in what it passes over.
        return _BODY.decode(body.decode())
    except (UnicodeDecodeError, DecodeError, RecursionError):  # the last from deep nesting
        pass
    # Raised out here so that it does not carry the decoder's error.
    raise UpstreamUnknown


def _text(value: Raw) -> str | None:
    """The text that a field holds; None for anything else, and for an empty one."""
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
    """Whether a field holds text that is not empty."""
    head = bytes(memoryview(value)[:2])
    return head.startswith(b'"') and head != b'""'


def _without_images(body: bytes) -> bytes:
    """The body with a dot in place of each plain image; byte for byte the same otherwise.

    Where there are too many to be an answer the last ones stay.
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
    """Where the text of a field begins and ends, its name ending at `at`.

    None where there is no text, or it is empty, or holds something that only a parser can judge.
    """
    start = _past_blanks(body, at)
    if body[start : start + 1] != b":":
        return None
    start = _past_blanks(body, start + 1)
    end = body.find(b'"', start + 1)
    if body[start : start + 1] != b'"' or end <= start + 1:
        return None
    # An escape may be of a quote, and a line break is not allowed in JSON's text.
    if body.find(b"\\", start, end) >= 0 or body.find(b"\n", start, end) >= 0:
        return None
    return start + 1, end


def _past_blanks(body: bytes, at: int) -> int:
    blanks = _BLANKS.match(body, at)
    return blanks.end() if blanks else at
