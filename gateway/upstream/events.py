"""The upstream's answer as a stream of events: read as it arrives, and made into a plain answer.

Partial images are passed on at once. The completed events become the answer that the upstream would
have given without a stream, so that nothing after this knows of streams. A stream that breaks off
is worth the pictures that it has completed.

Each completed event has the `usage` of its own picture: they are added up.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from math import inf
from typing import Any, NamedTuple

from msgspec import DecodeError, Raw, json

from gateway.core.lenient_json import read_leniently
from gateway.core.picture_spans import MarkedBody
from gateway.core.strict_json import write_json
from gateway.upstream.port import Wanted

TYPE = "text/event-stream"

END = b"\n\n"
"""Ends the last event of a stream that is not cut, even if the upstream does not."""

PARTIAL, COMPLETED = b"image_generation.partial_image", b"image_generation.completed"
ERROR = b"error"

MOST_LINES = 20_000
"""The most lines of a stream, comments included: real ones have a few for each event."""

LARGE_BYTES = 262_144
"""A longer event is read in a thread."""

MAX_PARTIAL_BYTES = 8_388_608
"""A longer partial image is dropped: it is a mere preview."""

MAX_REST = 65_536
"""An event whose fields without its pictures are longer is not parsed as it arrives, because the
parser keeps Python's lock. A completed one is parsed at the end, whatever its length."""

MAX_USAGE_BYTES = 16_384
"""The longest `usage` that is read."""

_DONE = b"[DONE]"
_OF_EVENTS = ("type", "created_at", "usage")
_OF_PICTURES = ("b64_json", "url", "revised_prompt")
_FIELD_BYTES = len(b"event: ")
_LINE = re.compile(rb"(event|data|id|retry)?:")
_BLANK = b"\xef\xbb\xbf \t\r\n"
_MAX_BLANK = 4_096

_FIELDS = json.Decoder(dict[str, Raw])
_TEXT = json.Decoder(str)


def are_events(start: bytes, is_labelled: bool) -> bool | None:
    """Whether a body with this start is a stream of events, whatever its label says.

    None: it takes more bytes to tell.
    """
    first = start[:_MAX_BLANK].lstrip(_BLANK)
    if is_labelled and first:
        return not first.startswith((b"{", b"[", b"\x1f"))
    if _LINE.match(first):
        return True
    return None if len(first) < _FIELD_BYTES and len(start) < _MAX_BLANK else is_labelled


class EventReader:
    """Splits a stream into its events. Their data are pieces to join: they may be large.

    `is_full`: it had more than MOST_LINES lines, and nothing further is read.
    """

    def __init__(self) -> None:
        self.is_full = False
        self._lines = 0
        self._line: list[bytes] = []
        self._name = b""
        self._data: list[bytes] = []
        self._ends_with_return = False

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield the name and the data of each event that ends in this chunk."""
        *ended, rest = self._with_newlines(chunk).split(b"\n", MOST_LINES - self._lines)
        self._lines += len(ended)
        for end in ended:
            line, self._line = [*self._line, end], []
            if any(line):
                self._read(line)
                continue
            name, data, self._name, self._data = self._name, self._data, b"", []
            if data:
                yield name, data
        if b"\n" in rest:
            self.is_full = True
        elif rest:
            self._line.append(rest)

    def _with_newlines(self, chunk: bytes) -> bytes:
        """The chunk with a newline at the end of each line. A carriage return may end one, too."""
        if self._ends_with_return:
            chunk = b"\r" + chunk
        self._ends_with_return = chunk.endswith(b"\r")
        if b"\r" not in chunk:
            return chunk
        return chunk.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, line: list[bytes]) -> None:
        """Read one line. Other fields than `event` and `data` do not matter, nor do comments."""
        while len(line) > 1 and len(line[0]) < _FIELD_BYTES:
            line[:2] = [line[0] + line[1]]
        field, _, first = line[0][:_FIELD_BYTES].partition(b":")
        value = [first.removeprefix(b" ") + line[0][_FIELD_BYTES:], *line[1:]]
        if field == b"data":
            self._data += [b"\n", *value] if self._data else value
        elif field == b"event":
            self._name = b"".join(value)


class StreamedAnswer:
    """Collects the events of an answer.

    `completed` has the data of the completed events, each in pieces, `unread` the name and the data
    of those that nobody has looked at. `is_over`: nothing that is
    read comes any more. `has_all`: it is complete or has failed, and only excess may come.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.completed: list[list[bytes]] = []
        self._reader = EventReader()
        self._is_done = False
        self._error = b""
        self.unread: list[tuple[bytes, list[bytes]]] = []
        self._wanted = wanted
        self._partial_images = 0

    @property
    def is_over(self) -> bool:
        return self._is_done or self._reader.is_full

    @property
    def has_all(self) -> bool:
        return bool(self._error) or 0 < self._wanted.images <= len(self.completed)

    @property
    def has_answer(self) -> bool:
        """Whether it has a picture or an error, or may have one, even if it broke off."""
        return bool(self.completed or self._error or self.unread)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream. Its events are `unread` until `take`."""
        self.unread += self._reader.feed(chunk)

    def is_slow(self) -> bool:
        """Whether the next unread event takes long to find out about."""
        name, data = self.unread[0]
        return name != COMPLETED and sum(map(len, data)) >= LARGE_BYTES

    def found(self) -> "Found":
        """Find out what the next unread event is. It changes nothing, so it may run in a thread."""
        return _found(*self.unread[0])

    def take(self, found: "Found") -> None:
        """Take the next unread event."""
        del self.unread[0]
        self._take(found)
        if found.kind == PARTIAL:
            self._pass_on(found.line)

    def _pass_on(self, line: bytes) -> None:
        if line and self._partial_images < self._wanted.partial_images:
            self._partial_images += 1
            self._wanted.on_partial(line)

    def _take(self, found: "Found") -> None:
        if found.kind == COMPLETED:
            self.completed.append(found.data)
        elif found.kind == ERROR:
            self._error = b"".join(found.data)[: MAX_REST + 1]
        elif found.kind == _DONE:
            self._is_done = True

    def answer(self) -> bytes:
        """Return the plain answer. Run it off the event loop.

        Without a completed event that is the upstream's error, or nothing.
        """
        for name, data in self.unread:
            self._take(_found(name, data))
        found = [_Event(b"".join(data)).mended() for data in self.completed]
        events = [event for event in found if event.fields]
        if not events:
            return self._error
        fields = [event.fields for event in events]
        common = _common(events)
        created, usage = fields[0].get("created_at"), _total([each.get("usage") for each in fields])
        given = {"created": created, "usage": usage}
        common |= {name: value for name, value in given.items() if value is not None}
        # Joined, because an encoder takes far longer for the pictures.
        items = b",".join(event.item({*common, *_OF_EVENTS}) for event in events)
        rest = json.encode(common).removeprefix(b"{")
        return b"".join((b'{"data":[', items, b"]", b"," if common else b"", rest))


class Found(NamedTuple):
    """An event: its kind, its data in pieces, and a partial image as JSON on one line."""

    kind: bytes
    data: list[bytes]
    line: bytes = b""


def _found(name: bytes, pieces: list[bytes]) -> Found:
    """Find out what an event is. One that cannot be read may be a picture, which was paid for."""
    if name == COMPLETED or (name == PARTIAL and sum(map(len, pieces)) > MAX_PARTIAL_BYTES):
        return Found(name, pieces)  # joined later: that takes long for a large one
    data = b"".join(pieces)
    if data.strip() == _DONE:
        return Found(_DONE, [])
    event = _Event(data, MAX_REST)
    kind = name if name in (PARTIAL, COMPLETED) else _text(event.fields.get("type"))
    if kind == COMPLETED or (not event.fields and name != PARTIAL and event.mentions(COMPLETED)):
        return Found(COMPLETED, [data])
    if kind == PARTIAL:
        return Found(PARTIAL, [], event.line() if event.fields else b"")
    if ERROR in (name, kind) or bytes(event.fields.get("error", b"null")) != b"null":
        return Found(ERROR, [data])
    return Found(b"", [])


class _Event:
    """The data of an event, with marks in the place of pictures.

    Without fields it is no object, or is longer than `most` without its pictures.
    """

    def __init__(self, data: bytes, most: float = inf) -> None:
        self._marked = MarkedBody(data)
        self.fields: dict[str, Raw] = {}
        if len(self._marked.rest) <= most:
            with suppress(DecodeError, UnicodeDecodeError, RecursionError):
                self.fields = _FIELDS.decode(self._marked.rest.decode())

    def mentions(self, kind: bytes) -> bool:
        """Whether the name of a kind stands anywhere in it, but for its pictures."""
        return b'"%b"' % kind in self._marked.rest

    def mended(self) -> "_Event":
        """The event without the faults in its form: it was paid for all the same."""
        if not self.fields:
            for name, value in (read_leniently(self._marked.rest) or {}).items():
                self.fields[name] = Raw(write_json(value, errors="replace"))
        return self

    def line(self) -> bytes:
        """The event as JSON on one line."""
        line = json.format(json.encode(self.fields), indent=-1)
        return self._marked.restored(line)

    def item(self, without: Collection[str]) -> bytes:
        """The JSON of the fields, but for some."""
        fields = {name: value for name, value in self.fields.items() if name not in without}
        return self._marked.restored(json.encode(fields))

    def is_plain(self, name: str) -> bool:
        """Whether no picture is in this field."""
        value = bytes(self.fields[name])
        return name not in _OF_PICTURES and self._marked.restored(value) == value


def _text(value: Raw | None) -> bytes:
    try:
        return b"" if value is None else _TEXT.decode(value).encode()
    except DecodeError:
        return b""


def _common(events: Sequence[_Event]) -> dict[str, Any]:
    """The fields that all events share. A price may depend on one: it must be that of them all."""
    first, *others = events
    return {
        name: value
        for name, value in first.fields.items()
        if name not in _OF_EVENTS
        and first.is_plain(name)
        and all(bytes(other.fields.get(name, b"")) == bytes(value) for other in others)
    }


def _total(usages: Sequence[Raw | None]) -> Any:
    """Add up the tokens. Returns None if one is missing, or if they differ in their shape."""
    if len(usages) == 1:
        return usages[0]
    try:
        if any(usage is None or len(memoryview(usage)) > MAX_USAGE_BYTES for usage in usages):
            return None
        return _sum([json.decode(usage) for usage in usages if usage is not None])
    except (DecodeError, RecursionError, ValueError):
        return None


def _sum(values: Sequence[Any]) -> Any:
    if all(isinstance(value, dict) for value in values):
        names = dict.fromkeys(name for value in values for name in value)
        return {name: _sum([value[name] for value in values if name in value]) for name in names}
    if all(type(value) is int for value in values):
        return sum(values)
    if all(value is None for value in values):
        return None
    raise ValueError("usages of another shape")
