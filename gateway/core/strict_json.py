"""Strict JSON: what two readers could understand differently is refused, never guessed at.

The gateway decides about a request and then sends it on. A body that the upstream might read
otherwise (a key given twice, NaN, a number beyond a double, half of a surrogate pair) could be
admitted as one request and bought as another. So it is refused, with a fixed text: nothing that
a client wrote is repeated.

Work is bounded before anything is parsed. CPython's own guard against deep nesting is the
recursion limit up to 3.11 and a guess at the size of the C stack from 3.12 on (measured: 3.11
and 3.12 give up below 5,000 levels, 3.13 goes on), and what was read is walked again when it is
written or compared. So levels, and characters outside of strings, are counted first, with string
operations that pass over a mebibyte in a few milliseconds.
"""

import json
import math
import re
from typing import Any, NoReturn

from gateway.core.errors import InvalidRequest

MAX_LEVELS = 64
"""Lists and objects inside one another."""

MAX_STRUCTURE = 65_536
"""Characters outside of strings: brackets, numbers, commas, white space. A mebibyte of `{},` or
of long integers would hold up every other request for a tenth of a second."""

MAX_DIGITS = 4_300
"""Digits of an integer, the sign included: reading and writing one takes quadratic time."""

_BYTE_ORDER_MARK = "\ufeff"

_MARKS = re.compile(r"[][{}]")


def read_object(body: bytes) -> dict[str, Any]:
    """The one JSON object that `body` is, its keys in the order they came.

    Raises InvalidRequest with the codes empty_body, invalid_encoding, invalid_json,
    not_an_object, duplicate_key, invalid_number, too_deep and too_much_structure.
    """
    if not body:
        raise InvalidRequest("The body is empty.", code="empty_body")
    text = _decoded(body)
    _check_shape(text)
    value = _parsed(text)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.", code="not_an_object")
    # Only an escape can bring in half of a pair: raw ones are no UTF-8.
    if "\\u" in text and not _is_unicode(value):
        raise InvalidRequest(
            "The body holds half of a surrogate pair, which is no character.",
            code="invalid_encoding",
        )
    return value


def write_json(value: object) -> bytes:
    """Compact JSON in UTF-8. Reading it again gives an equal value of the same types.

    Raises UnicodeEncodeError where text holds a lone surrogate.
    """
    return _WRITER.encode(value).encode()


def _decoded(body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        text = _BYTE_ORDER_MARK
    # Raised out here, as below: it must not carry the other error, which holds the whole body.
    if text.startswith(_BYTE_ORDER_MARK):
        raise InvalidRequest(
            "The body must be UTF-8 without a byte order mark.", code="invalid_encoding"
        )
    return text


def _check_shape(text: str) -> None:
    """Raise InvalidRequest where there are too many levels, or too much outside of strings."""
    # What is inside strings counts too here, so this passes nothing that is too much.
    if len(text) <= MAX_STRUCTURE and text.count("[") + text.count("{") <= MAX_LEVELS:
        return
    structure = _without_strings(text)
    if _levels(structure[:MAX_STRUCTURE]) > MAX_LEVELS:
        raise InvalidRequest(
            f"The body is nested deeper than {MAX_LEVELS} levels.", code="too_deep"
        )
    if len(structure) > MAX_STRUCTURE:
        _refuse_structure()


def _without_strings(text: str) -> str:
    # Escaped backslashes go first, so that the quotes after them are seen as what they are.
    quoted = text.replace("\\\\", "").replace('\\"', "")
    # Between two strings stands at least one character, and each string has two quotes.
    if quoted.count('"') > 2 * MAX_STRUCTURE + 2:
        _refuse_structure()
    return "".join(quoted.split('"')[::2])


def _levels(structure: str) -> int:
    level = deepest = 0
    for mark in _MARKS.findall(structure):
        level += 1 if mark in "[{" else -1
        deepest = max(deepest, level)
    return deepest


def _refuse_structure() -> NoReturn:
    raise InvalidRequest(
        f"The body has more than {MAX_STRUCTURE} characters outside of its strings.",
        code="too_much_structure",
    )


def _parsed(text: str) -> object:
    try:
        return _READER.decode(text)
    except json.JSONDecodeError:
        pass
    raise InvalidRequest("The body is not valid JSON.", code="invalid_json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidRequest("A key is given twice in one object.", code="duplicate_key")
    return fields


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise InvalidRequest(
            f"An integer is longer than {MAX_DIGITS} digits.", code="invalid_number"
        )
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise InvalidRequest("A number is beyond what a double holds.", code="invalid_number")
    return number


def _constant(name: str) -> NoReturn:
    raise InvalidRequest("NaN and Infinity are not JSON.", code="invalid_number")


def _is_unicode(value: object) -> bool:
    try:
        write_json(value)
    except UnicodeEncodeError:
        return False
    return True


_READER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
_WRITER = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
)
