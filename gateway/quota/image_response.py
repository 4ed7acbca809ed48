"""Reads the upstream's 200: the number of images, their URLs, size and quality, and the usage.

A response in strict JSON is passed on as it is. One with faults in its form was paid for too: if it
holds an image, it is passed on re-encoded (see `gateway.core.lenient_json`).

Images are nearly all of a response. Plain base64 is cut out before the rest is parsed, and a
re-encoded rest gets it back as it was: see `gateway.core.picture_spans`.

The number of items is limited too, because 64 MB of tiny items would take the parser 40 s. A
response far beyond any real one is treated as unusable.
"""

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from gateway.core.errors import InvalidRequest
from gateway.core.lenient_json import read_leniently, to_utf8
from gateway.core.picture_spans import MAX_OBJECTS, MarkedBody, without_pictures
from gateway.core.strict_json import read_object, write_json
from gateway.core.upstream_errors import UpstreamUnknown
from gateway.quota.token_usage import NO_USAGE, Usage, read_usage

MAX_CHECKED_BYTES = 1_048_576
"""The longest rest that is checked for what only strict parsers refuse. It takes 5 ms."""

MAX_USAGE_BYTES = 16_384
MAX_WORD_BYTES = 256
"""Limits for `usage`, and for size and quality. A longer value is ignored."""

_NULL = Raw(b"null")


class GivenImage(Struct, frozen=True):
    """An image of a response: its URL, "" without one, and whether its base64 is there.

    A `data:` URI is cut short.
    """

    url: str
    has_base64: bool


class ImageResponse(Struct, frozen=True):
    """The content of a response. `given` are its images in their order.

    `size` and `quality` are None if the response does not name them. `reencoded` is the response in
    strict JSON, or None if the upstream's bytes can be passed on as they are.
    """

    given: tuple[GivenImage, ...]
    size: str | None
    quality: str | None
    usage: Usage = NO_USAGE
    reencoded: bytes | None = None

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.given)


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
    """Read a response, re-encoded if its form has faults. Run it off the event loop.

    Each item with a `b64_json` or a `url` is one image. Raises UpstreamUnknown without any.
    """
    found = read_sound_response(body) or _mended_response(to_utf8(body))
    if found is None:
        raise UpstreamUnknown(upstream_status=200)
    return found


def read_sound_response(body: bytes) -> ImageResponse | None:
    """Read a response that can be passed on as it is. Returns None for any other."""
    rest = without_pictures(body)
    return _read(rest) if _is_strict(rest) else None


def _mended_response(body: bytes) -> ImageResponse | None:
    """Read and re-encode a response with faults. Returns None if it has no image."""
    marked = MarkedBody(body)
    fields = read_leniently(marked.rest)
    if fields is None:
        return None
    data = fields.get("data")
    items = data if isinstance(data, list) else [data]
    fields["data"] = [item for item in items if isinstance(item, dict)]
    rest = write_json(fields, errors="replace")
    reencoded = marked.restored(rest)
    # Read again: what is charged is exactly what is delivered.
    answered = read_sound_response(reencoded)
    return answered and replace(answered, reencoded=reencoded)


def _is_strict(rest: bytes) -> bool:
    """Whether a strict parser reads the rest. Of a large one, `_read` decides."""
    if len(rest) > MAX_CHECKED_BYTES:
        return True
    try:
        read_object(rest)
    except InvalidRequest as fault:
        return fault.code in ("too_deep", "too_much_structure")  # no faults of the form
    return True


def _read(rest: bytes) -> ImageResponse | None:
    """Read a response without its images. Returns None if it had none, or cannot be read."""
    answer = _parsed(rest)
    if answer is None:
        return None
    given = tuple(
        GivenImage(url, has_base64)
        for item in answer.data
        for url, has_base64 in [(text_of(item.url) or "", is_filled(item.b64_json))]
        if url or has_base64
    )
    if not given:
        return None
    return ImageResponse(given, _word(answer.size), _word(answer.quality), _usage(answer.usage))


def _parsed(rest: bytes) -> _Body | None:
    if rest.count(b"{") > MAX_OBJECTS:
        return None
    try:
        # As text, because the parser does not check the UTF-8 of values that it skips.
        return _BODY.decode(rest.decode())
    except (UnicodeDecodeError, DecodeError, RecursionError):  # the last from deep nesting
        return None


def text_of(value: Raw) -> str | None:
    """Return the text of a field, or None if it is empty or not text."""
    if not is_filled(value):
        return None
    try:
        return _TEXT.decode(value)
    except DecodeError:
        return None


def _word(value: Raw) -> str | None:
    return text_of(value) if len(memoryview(value)) <= MAX_WORD_BYTES else None


def _usage(value: Raw) -> Usage:
    if len(memoryview(value)) > MAX_USAGE_BYTES:
        return NO_USAGE
    try:
        return read_usage(_ANYTHING.decode(value))
    except (DecodeError, RecursionError):
        return NO_USAGE


def is_filled(value: Raw) -> bool:
    """Whether a field is text that is not empty."""
    head = bytes(memoryview(value)[:2])
    return head.startswith(b'"') and head != b'""'
