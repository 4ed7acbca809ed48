"""Reads a provider's invoice in CSV, and compares it with the recorded costs.

The file has a column of days and a column of amounts in dollars, each with a title. Other columns
are ignored. Common variants are accepted: a byte order mark, titles in any case, semicolons or
tabs between fields, a currency sign, thousands separators, several rows for a day, and negative
credits. Anything ambiguous is a fault, because nobody checks a sum that is nearly right.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from io import StringIO

from msgspec import Struct

from gateway.core.money import MICRO, MicroDollars

DAYS = ("date", "day")
AMOUNTS = ("amount", "cost", "amount_usd", "cost_usd")

_DELIMITERS = ",;\t"
_MOST = Decimal(1_000_000_000)
"""The highest amount of a row in dollars."""
_DATE = r"\d{4}-\d{2}-\d{2}"
_CLOCK = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?( ?(Z|UTC|[+-]\d{2}:\d{2}))?"
_TIME = re.compile(f"{_DATE}({_CLOCK})?", re.ASCII)
_NUMBER = re.compile(
    r"(\d+|[1-9]\d{0,2}(,\d{3})+)?(\.\d+)?([eE][+-]?\d{1,2})?", re.ASCII
)  # and a digit somewhere


class InvoiceError(Exception):
    """The invoice cannot be used. `faults` has one line for each reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class Day(Struct, frozen=True, kw_only=True):
    """A UTC day in the records and in the invoice. An amount is None if the day is missing there.

    `unknown` is the part of `recorded` whose delivery could not be confirmed. `drift` is the billed
    amount minus the recorded one, also in percent of the recorded amount unless that is 0. `sides`
    is "both", "recorded" or "billed". `explained` means that the day is not within the tolerance,
    but would be if the provider billed only a part of the unknown amount, or nothing of it.
    """

    day: str
    recorded: MicroDollars | None
    unknown: MicroDollars
    billed: MicroDollars | None
    drift: MicroDollars
    drift_percent: float | None
    sides: str
    within_tolerance: bool
    explained: bool


def read_invoice(content: bytes) -> dict[str, int]:
    """Return micro-dollars by UTC day, in order. Raises InvoiceError with every fault."""
    text = _text(content)
    # The mark that is most frequent in the line of titles.
    delimiter = max(_DELIMITERS, key=text.lstrip().partition("\n")[0].count)
    rows = _rows(text, delimiter)
    number, titles = next(rows, (1, []))
    faults = list[str]()
    day, amount = _column(titles, DAYS, number, faults), _column(titles, AMOUNTS, number, faults)
    if faults:
        raise InvoiceError(faults)
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    try:
        for number, row in rows:
            try:
                sums[_day(_field(row, day))] += _amount(_field(row, amount), delimiter)
            except ValueError as error:
                faults.append(f"line {number}: {error}")
    except InvoiceError as error:
        faults += error.faults
    if not sums and not faults:
        faults.append("it has titles but no rows")
    if faults:
        raise InvoiceError(faults)
    return {day: _micro(sums[day]) for day in sorted(sums)}


def compared(
    billed: Mapping[str, int],
    recorded: Mapping[str, int],
    unknown: Mapping[str, int],
    tolerance: int,
) -> list[Day]:
    """Return every day of either side, in order. All amounts are micro-dollars, by day."""
    return [
        _day_of(day, recorded.get(day), billed.get(day), unknown.get(day, 0), tolerance)
        for day in sorted({*billed, *recorded})
    ]


def total(days: Sequence[Day], tolerance: int) -> Day:
    """Return the total of all days."""
    recorded, billed = sum(day.recorded or 0 for day in days), sum(day.billed or 0 for day in days)
    return _day_of("total", recorded, billed, sum(day.unknown for day in days), tolerance)


def _day_of(
    day: str, recorded: int | None, billed: int | None, unknown: int, tolerance: int
) -> Day:
    drift = (billed or 0) - (recorded or 0)
    return Day(
        day=day,
        recorded=recorded,
        unknown=unknown,
        billed=billed,
        drift=drift,
        drift_percent=round(100 * drift / recorded, 2) if recorded else None,
        sides="recorded" if billed is None else "billed" if recorded is None else "both",
        within_tolerance=abs(drift) <= tolerance,
        explained=tolerance < -drift <= unknown + tolerance,
    )


# -- reading ------------------------------------------------------------------------------------


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvoiceError([f"line {line}: is not UTF-8 text"]) from None


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with its first line number."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvoiceError([f"line {line}: is not CSV ({error})"]) from None


def _column(titles: Sequence[str], known: Sequence[str], line: int, faults: list[str]) -> int:
    """Return the index of the column with one of these titles, or 0 and add a fault."""
    found = [place for place, title in enumerate(titles) if title.strip().lower() in known]
    if len(found) == 1:
        return found[0]
    many = "more than one column is" if found else "no column is"
    faults.append(f"line {line}: {many} called {' or '.join(known)}")
    return 0


def _field(row: Sequence[str], place: int) -> str:
    if place >= len(row):
        raise ValueError("has fewer fields than there are titles")
    return row[place].strip()


def _day(text: str) -> str:
    """Return the UTC day of a date or a time. Times without a zone are UTC. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError("its day is not written as 2026-11-01")
    try:
        at = datetime.fromisoformat(text.replace(" UTC", "Z").replace(" ", "T", 1))
        day = at.date() if at.tzinfo is None else at.astimezone(UTC).date()
    except (ValueError, OverflowError):
        day = date.min
    if not 1970 <= day.year <= 9998:
        raise ValueError("its day is not in the calendar, from 1970 to 9998")
    return day.isoformat()


def _amount(text: str, delimiter: str) -> Decimal:
    """Return dollars, below zero for a credit. Raises ValueError.

    In a file with semicolons a comma may be a decimal comma. Such an amount is refused.
    """
    bare = re.sub(r"(?i)\bUSD\b|US\$|\$", "", text).replace("\u2212", "-").strip()
    negative = bare.startswith("-") or (bare.startswith("(") and bare.endswith(")"))
    if bare.startswith("(") and bare.endswith(")"):
        bare = bare[1:-1]
    digits = bare.removeprefix("-").removeprefix("+").strip()
    doubtful = delimiter == ";" and "," in digits
    if doubtful or not _NUMBER.fullmatch(digits) or not any(mark.isdigit() for mark in digits):
        raise ValueError("its amount is not a number of dollars, such as 1234.56 or $1,234.56")
    amount = Decimal(digits.replace(",", ""))
    if amount > _MOST:
        raise ValueError("its amount is above a billion dollars")
    return -amount if negative else amount


def _micro(amount: Decimal) -> int:
    """Return micro-dollars. An invoice may be finer, and then its days are rounded."""
    return int((amount * MICRO).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
