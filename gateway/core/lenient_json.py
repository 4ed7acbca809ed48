"""Lenient JSON: finds the object that faulty JSON means.

Requests are read strictly, because two parsers might understand a faulty one differently. Answers
are paid for before they are read, so a fault in their form must not throw them away. The result can
be written strictly, and these faults are mended:

- the encoding: byte order marks, UTF-16 and UTF-32, bytes that are not UTF-8
- text around the object, and several objects in a row: they count as one with all their keys
- a key given twice: two lists are joined; of other values the last one counts that is not empty
- NaN, Infinity and numbers beyond a double or of too many digits, which become null
- trailing commas, line breaks in strings, and escapes that JSON does not have
- levels below `MAX_LEVELS`, which become null
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from gateway.core.strict_json import MAX_DIGITS, MAX_LEVELS

MOST = 400_000
"""The most strings, brackets and commas together, and the most backslashes. So many take a fifth of
a second. Text that has more is not read."""

_EMPTY: tuple[object, ...] = (None, "", [], {})

_TOKEN = re.compile(
    # A string, up to the end of the text if it is not closed: else the search would begin again at
    # each quote in it.
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
    r"|(?P<open>[\[{])|(?P<close>[\]}])"
    r"|(?P<trailing>,(?=[ \t\r\n]*+[\]}]))|,"
    r"|(?P<word>[-+]?\b(?i:nan|inf|infinity|undefined)\b)",
    re.DOTALL,
)
_NO_ESCAPE = re.compile(r'\\(?!["/bfnrt]|u[0-9a-fA-F]{4})')


def to_utf8(data: bytes) -> bytes:
    """Return JSON in UTF-16 or UTF-32 as UTF-8, and any other unchanged."""
    encoding = json.detect_encoding(data)
    if encoding.startswith("utf-8"):
        return data
    return data.decode(encoding, "replace").encode()


def read_leniently(data: bytes) -> dict[str, Any] | None:
    """Return the object that JSON in UTF-8 means, or None if nobody can tell.

    Run it off the event loop: it takes up to half a second.
    """
    text = data.decode(errors="replace")
    if max(text.count("\\"), text.count(",")) > MOST:
        return None
    mended = _mended(_with_valid_escapes(text))
    pairs = [pair for fields in _objects(mended) for pair in fields.items()]
    return _object(pairs) if pairs else None


def _with_valid_escapes(text: str) -> str:
    """Double the backslashes that begin no escape. Pairs of them are left alone."""
    return "\\\\".join([_NO_ESCAPE.sub(r"\\\\", part) for part in text.split("\\\\")])


def _mended(text: str) -> str:
    """Return the text without trailing commas, and with null for words and levels that JSON lacks.

    Returns nothing if there are more than `MOST` tokens, or if levels are left open.
    """
    kept: list[str] = []
    done = depth = 0
    for number, token in enumerate(_TOKEN.finditer(text)):
        if number == MOST:
            return ""
        kind, start, end = token.lastgroup, token.start(), token.end()
        if kind == "open":
            depth += 1
            if depth == MAX_LEVELS + 1:
                kept += (text[done:start], "null")
        elif kind == "close":
            if depth == MAX_LEVELS + 1:
                done = end
            depth = max(0, depth - 1)
        elif kind is not None and depth <= MAX_LEVELS:
            kept += (text[done:start], "null" if kind == "word" else "")
            done = end
    return "" if depth > MAX_LEVELS else "".join((*kept, text[done:]))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a text, up to the first that cannot be read."""
    at = text.find("{")
    while at >= 0:
        try:
            fields, end = _READER.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):  # the last if quotes do not pair
            return
        yield fields
        at = text.find("{", end)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        fields = {}
        for name, value in pairs:
            former = fields.get(name)
            if isinstance(former, list) and isinstance(value, list):
                former += value
            elif name not in fields or value not in _EMPTY:
                fields[name] = value
    return fields


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= MAX_DIGITS else None


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if abs(number) != float("inf") else None


_READER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, strict=False
)
