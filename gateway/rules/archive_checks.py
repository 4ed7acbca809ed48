"""Whether what an archive says can be: no store of ours ever held anything else.

A number that is absurd, of a damaged or hostile archive, would be found out only where it is
added to others: at a purchase or in a report, and then for everybody.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

from gateway.model import Entry
from gateway.rules.account import Counters
from gateway.rules.windows import day_of, month_of

MOST = 2**53 - 1
"""The largest number of anything, and the largest sum of a whole history: in micro-dollars nine
billion dollars. No store's sums overflow before."""

NAME_CHARACTERS = 1_000
"""The longest name or other text. Ours have 64 at the most; models and people may have more."""

VALUE_BYTES = 1_000
"""The longest digest or check value."""

NOTE_BYTES = 10_000
"""The longest note of a claim: what was told, to whom, and what came of it."""

END_OF_TIME = 253_370_764_800.0
"""The first second of the year 9999. Times before are dates everywhere in the world."""

SUMMED = (
    *("requests", "images_bought", "images_cached", "images_unknown", "cost", "saved"),
    *("images_coalesced", "requests_refused"),
)
_ANYTHING = ("before", "after")
_NOTE = "note"
_LAST_MONTH = month_of(END_OF_TIME - 1)
_SINGLE = (int, str, float, bytes)


def fault(value: Any, name: str) -> str | None:
    """What cannot be in a value of an archive, or None; it may be a Struct or hold others.

    A `float` is a time. What the log of changes tells of before and after may be anything.
    """
    if isinstance(value, Struct):
        fields = zip(value.__struct_fields__, astuple(value), strict=True)
        parts = [(field, part) for field, part in fields if field not in _ANYTHING]
        if isinstance(value, Counters) and _is_of_no_time(value):
            return f"{name} counts a time that is not from 1970 to 9998"
    elif isinstance(value, Mapping):
        parts = [(name, part) for pair in value.items() for part in pair]
    elif isinstance(value, list | tuple):
        parts = [(name, part) for part in value]
    else:
        return _fault_of_one(value, name)
    for field, part in parts:
        # There are millions of them: those that hold nothing are looked at here and now.
        look = _fault_of_one if type(part) in _SINGLE else fault
        if cause := look(part, field):
            return cause
    return None


def _is_of_no_time(counters: Counters) -> bool:
    """Whether it counts a period or a second of which no date can be told."""
    day, month = counters.day.period, counters.month.period
    latest = max((second for second, _ in counters.minute), default=0)
    return day >= day_of(END_OF_TIME) or month > _LAST_MONTH or latest >= END_OF_TIME


def _fault_of_one(value: Any, name: str) -> str | None:
    kind = type(value)
    if kind is int:
        return None if 0 <= value <= MOST else f"{name} is not between 0 and {MOST}"
    if kind is str:
        return None if len(value) <= NAME_CHARACTERS else f"{name} is too long"
    if kind is float:  # not a number is no time either
        return None if 0 <= value < END_OF_TIME else f"{name} is no time from 1970 to 9998"
    if kind is bytes:
        most = NOTE_BYTES if name == _NOTE else VALUE_BYTES
        return None if len(value) <= most else f"{name} is too long"
    return None


class Totals:
    """Sums over a history, as reports add it up."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(SUMMED, 0)

    def fault(self, entry: Entry) -> str | None:
        """Add an entry; which sum is too large with it, or None."""
        for name in SUMMED:
            self._sums[name] += getattr(entry, name)
            if self._sums[name] > MOST:
                return f"{name} is too much together with what came before"
        return None
