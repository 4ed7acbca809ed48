"""Strict JSON: a body that two parsers could understand differently is refused.

The gateway decides about a request and then forwards it. The upstream might read some bodies
differently: a key given twice, NaN, a number beyond a double, half of a surrogate pair. Such a
body could be admitted as one request and bought as another. So it is refused with a fixed text,
which repeats nothing that the client wrote.

The work is bounded before anything is parsed. CPython's own guard against deep nesting differs
between versions: 3.11 and 3.12 give up below 5,000 levels, 3.13 does not (measured). A value that
was read is also walked again when it is written or compared. So levels, and characters outside
strings, are counted first. The string operations for that take a few milliseconds per mebibyte.
"""

import json
import math
import re
from itertools import accumulate
from typing import Any, Literal, NoReturn

from gateway.core.errors import InvalidRequest

MAX_LEVELS = 64
"""The greatest depth of nested lists and objects."""

MAX_STRUCTURE = 65_536
"""The most characters outside strings: brackets, numbers, commas, white space. A mebibyte of `{},`
or of long integers would delay every other request by a tenth of a second."""

MAX_DIGITS = 4_300
"""The most digits of an integer with its sign: reading and writing one takes quadratic time."""

_BYTE_ORDER_MARK = "\ufeff"

_MARKS = re.compile(r"[][{}]")


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body, its keys in the client's order.

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
    # Only an escape can produce half of a pair: a raw one is not valid UTF-8.
    if "\\u" in text and not _is_unicode(value):
        raise InvalidRequest(
            "The body has half of a surrogate pair, which is not a character.",
            code="invalid_encoding",
        )
    return value


def write_json(value: object, errors: Literal["strict", "replace"] = "strict") -> bytes:
    """Return compact JSON in UTF-8. Reading it again gives an equal value of the same types.

    A lone surrogate in a text raises UnicodeEncodeError, or is replaced with a question mark.
    """
    return _WRITER.encode(value).encode(errors=errors)


def _decoded(body: bytes) -> str:
    """Decode UTF-8. One byte order mark before the JSON is no part of it."""
    try:
        return body.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError:
        pass
    # Raised outside the handler, as below, because the decoder's error contains the whole body.
    raise InvalidRequest("The body must be UTF-8.", code="invalid_encoding")


def _check_shape(text: str) -> None:
    """Raise InvalidRequest if there are too many levels, or too much outside strings."""
    # This quick check also counts what is inside strings, so it never passes too much.
    if len(text) <= MAX_STRUCTURE and text.count("[") + text.count("{") <= MAX_LEVELS:
        return
    # Escaped backslashes go first, so that a quote after them still ends its string.
    quoted = text.replace("\\\\", "").replace('\\"', "")
    # There is at least one character between two strings, and each string has two quotes.
    too_much = quoted.count('"') > 2 * MAX_STRUCTURE + 2
    structure = "" if too_much else "".join(quoted.split('"')[::2])
    if _levels(structure[:MAX_STRUCTURE]) > MAX_LEVELS:
        raise InvalidRequest(
            f"The body is nested deeper than {MAX_LEVELS} levels.", code="too_deep"
        )
    if too_much or len(structure) > MAX_STRUCTURE:
        raise InvalidRequest(
            f"The body has more than {MAX_STRUCTURE} characters outside its strings.",
            code="too_much_structure",
        )


def _levels(structure: str) -> int:
    steps = (1 if mark in "[{" else -1 for mark in _MARKS.findall(structure))
    return max(accumulate(steps), default=0)


def _parsed(text: str) -> object:
    try:
        return _READER.decode(text)
    except json.JSONDecodeError:
        pass
    raise InvalidRequest("The body is not valid JSON.", code="invalid_json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidRequest("A key appears twice in one object.", code="duplicate_key")
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
        raise InvalidRequest("A number is beyond the range of a double.", code="invalid_number")
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
