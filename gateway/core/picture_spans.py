"""Cuts the pictures out of an answer's JSON: nearly all of its bytes, which nobody need parse.

The parser takes 12 ms for 20 MB, which blocks all other requests; finding the ends of the pictures
takes 2 ms. They are neither decoded nor copied.
"""

import re
from collections.abc import Callable, Iterable
from hashlib import sha256

MAX_OBJECTS = 20_000
"""The most opening braces in an answer, including those in its strings. So it has fewer pictures: a
request can ask for a thousand."""

Span = tuple[int, int]

_NAME = b'"b64_json"'
_OPENING = re.compile(rb'[ \t\r\n]*+:[ \t\r\n]*+"')
_URI = b'"data:'


def picture_spans(body: bytes) -> list[Span]:
    """Return start and end of each plain picture: of a `b64_json`, and of any text that is a URI.

    At most `MAX_OBJECTS` are looked for: with more, the answer is unusable anyway.
    """
    spans: list[Span] = []
    at, name = 0, body.find(_NAME)
    for _ in range(MAX_OBJECTS):
        if 0 <= name < at:
            name = body.find(_NAME, at)
        uri = body.find(_URI, at, name if name >= 0 else len(body))
        if uri >= 0:
            at = uri + len(_URI)
        elif name >= 0:
            at = name + len(_NAME)
            opening = _OPENING.match(body, at)
            if opening is None:
                continue
            at = opening.end()
        else:
            break
        end = _plain_end(body, at)
        if end is not None:
            spans.append((at, end))
            at = end
    return spans


def cut_out(body: bytes, spans: Iterable[Span], mark: Callable[[int, int], bytes]) -> bytes:
    """Replace each picture with a mark, made from its start and end. The rest stays as it is."""
    kept: list[bytes] = []
    done = 0
    for start, end in spans:
        kept += (body[done:start], mark(start, end))
        done = end
    kept.append(body[done:])
    return b"".join(kept)


def without_pictures(body: bytes) -> bytes:
    """Return the rest of the body, with a dot in the place of each picture."""
    return cut_out(body, picture_spans(body), lambda start, end: b".")


class MarkedBody:
    """A body with a mark in the place of each picture, and the way back.

    `rest` is the body with the marks. It may be changed, and marks in it moved or dropped.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        spans = picture_spans(body)
        # No text can contain its own hash, so the marks are found again.
        mark = sha256(cut_out(body, spans, lambda start, end: b".")).hexdigest()
        self.rest = cut_out(body, spans, lambda start, end: f"{mark}{start}-{end};".encode())
        self._marks = re.compile(rb"%b(\d+)-(\d+);" % mark.encode())

    def restored(self, rest: bytes) -> bytes:
        """Put the pictures back in the place of their marks."""
        body = self._body
        return self._marks.sub(lambda found: body[int(found[1]) : int(found[2])], rest)


def _plain_end(body: bytes, start: int) -> int | None:
    """Return the end of a text that begins at `start`.

    Returns None if it is empty, or if only a parser can read it.
    """
    end = body.find(b'"', start)
    if end <= start:
        return None
    # An escape may hide a quote, and JSON allows no line break in a string.
    if body.find(b"\\", start, end) >= 0 or body.find(b"\n", start, end) >= 0:
        return None
    return end
