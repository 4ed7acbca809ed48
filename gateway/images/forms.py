"""An answer in the form that its client reads: base64, links, or both.

- A URL of the upstream is shown only while it still works for `SHOWN_SECONDS`. Then a link of the
  gateway stands in its place, or the field goes if there is none and the base64 is there.
- A form that cannot be made fails no answer, because the answer is paid for: a picture without any
  URL goes out with its base64, and one without base64 with its URL.

Fields that are not about the form stay as they are, byte for byte. Most answers need no change:
`is_ready` finds that out without a look at their bytes.
"""

import binascii
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat

from msgspec import DecodeError, Raw, json

from gateway.core.model import Bought, Deliver, Picture
from gateway.core.picture_spans import MarkedBody
from gateway.images import encoding
from gateway.quota.image_response import is_filled, text_of

SHOWN_SECONDS = 300.0
"""How long a URL of the upstream must still work to be shown."""

Link = Callable[[str], str]
"""Makes the URL of the picture with this name in the image store."""

_FIELDS = json.Decoder(dict[str, Raw])
_ITEMS = json.Decoder(list[dict[str, Raw]])
_NULL = Raw(b"null")
_UNKNOWN = Picture()


def is_ready(pictures: Iterable[Picture], form: Deliver, now: float) -> bool:
    """Whether an answer with these pictures has this form as it is."""
    if form in ("url", "both"):
        return False
    for picture in pictures:
        if picture.has_url and (form == "b64_json" or picture.until - now < SHOWN_SECONDS):
            return False
        if form == "upstream" and picture.fetched:
            return False
    return True


def wants_link(picture: Picture, form: Deliver, now: float) -> bool:
    """Whether this form shows the picture by a link of the gateway."""
    if picture.has_url:
        return form != "b64_json" and picture.until - now < SHOWN_SECONDS
    return form in ("url", "both")


def render(bought: Bought, form: Deliver, link: Link | None, now: float) -> bytes:
    """Return the answer in this form. Run it off the event loop if the answer is large.

    Without `link`, no links can be made.
    """
    opened = _opened(bought.body)
    if opened is None:
        return bought.body
    pictures = chain(bought.pictures, repeat(_UNKNOWN))
    for item, picture in zip(opened.with_pictures(), pictures, strict=False):
        _give_form(item, picture, form, link, now)
    return opened.written()


def with_base64(body: bytes, pictures: Mapping[int, bytes]) -> bytes:
    """Add the base64 of pictures to an answer, by their places among its pictures.

    Run it off the event loop.
    """
    opened = _opened(body)
    if opened is None:
        return body
    for place, item in enumerate(opened.with_pictures()):
        if place in pictures:
            item["b64_json"] = Raw(b'"%b"' % encoding.encode(pictures[place]))
    return opened.written()


def picture_bytes(body: bytes, places: Collection[int]) -> dict[int, bytes]:
    """Decode the base64, or the data: URIs, of the pictures at these places.

    Those without readable base64 are missing in the result. Run it off the event loop.
    """
    opened = _opened(body)
    if opened is None:
        return {}
    found = {}
    for place, item in enumerate(opened.with_pictures()):
        if place in places and (data := _decoded(opened, item)):
            found[place] = data
    return found


class OpenedAnswer:
    """An answer whose items can be changed, with marks in the place of its pictures' bytes.

    `fields` has its fields as they came. Raises msgspec.DecodeError if the answer cannot be read.
    """

    def __init__(self, body: bytes) -> None:
        self._marked = MarkedBody(body)
        self.fields = _FIELDS.decode(self._marked.rest)
        self._items: Sequence[dict[str, Raw]] = _ITEMS.decode(self.fields["data"])

    def with_pictures(self) -> Iterator[dict[str, Raw]]:
        """The items that hold a picture: those that were charged."""
        return (item for item in self._items if _has_base64(item) or _url(item))

    def text(self, value: Raw) -> bytes:
        """The text of a field, with its picture."""
        whole = self.restored(bytes(value))
        return json.decode(whole, type=str).encode() if b"\\" in whole else whole[1:-1]

    def restored(self, text: bytes) -> bytes:
        """The text with the bytes of the pictures in the place of their marks."""
        return self._marked.restored(text)

    def written(self) -> bytes:
        """The answer with the changed items."""
        return self.restored(json.encode({**self.fields, "data": self._items}))


def _opened(body: bytes) -> OpenedAnswer | None:
    """Open an answer. Returns None for one with faults in its form that nobody looked for."""
    try:
        return OpenedAnswer(body)
    except (DecodeError, UnicodeDecodeError):
        return None


def _give_form(
    item: dict[str, Raw], picture: Picture, form: Deliver, link: Link | None, now: float
) -> None:
    has_base64, given = _has_base64(item), _url(item)
    url: Raw | None = None
    if form in ("url", "both") or (given and form != "b64_json"):
        if given and picture.until - now >= SHOWN_SECONDS:
            url = item["url"]
        elif link is not None and picture.name:
            url = Raw(json.encode(link(picture.name)))
    if url is None and not has_base64:
        url = item["url"]
    hides_base64 = form == "url" or (form == "upstream" and picture.fetched)
    if url is not None:
        item["url"] = url
        if hides_base64:
            item.pop("b64_json", None)
    elif given:
        del item["url"]


def _has_base64(item: Mapping[str, Raw]) -> bool:
    return is_filled(item.get("b64_json", _NULL))


def _url(item: Mapping[str, Raw]) -> str | None:
    return text_of(item.get("url", _NULL))


def _decoded(opened: OpenedAnswer, item: Mapping[str, Raw]) -> bytes | None:
    has_base64 = _has_base64(item)
    text = opened.text(item["b64_json"] if has_base64 else item["url"])
    if text[:5].lower() == b"data:":
        head, _, text = text.partition(b",")
        if not head.endswith(b";base64"):
            return None
    elif not has_base64:
        return None
    try:
        return encoding.decode(text) or binascii.a2b_base64(text)
    except binascii.Error:
        return None
