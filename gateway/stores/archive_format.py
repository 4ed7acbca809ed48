"""An archive: the whole state of a store as lines of JSON, the same whatever store it is from.

    {"kind":"header","format":"gateway-archive","version":1,...}
    {"kind":"check",...}      what the pepper is recognised by, first of all
    {"kind":"clock",...}      then the clock's mark, teams, keys, their uses, accounts, the log of
    {"kind":"team",...}       changes, what people were told and usage entries, in this order
    ...
    {"kind":"footer","counts":{"check":1,...},"sha256":"..."}

It holds no secret: keys are there by their digests, as in the store. Money is whole micro-dollars,
bytes are base64, and an account is an array without field names, as the stores keep it.

Reading believes nothing: a line that is damaged, unknown, out of order or there twice, and an
archive that is cut off or whose checksum (SHA-256 of all lines before the footer) is wrong, is
refused as a whole; so is one that says what cannot be. Whoever adds a field to anything in here
raises `VERSION`: older gateways could not know what they would lose. New fields have defaults, so
that old archives stay readable.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

from gateway.core.model import AuditEntry, Claim, Entry, Key, Team
from gateway.core.periods import day_of, month_of
from gateway.quota.account import Account, Counters

FORMAT = "gateway-archive"
VERSION = 4

LINE_BYTES = 64 * 1024 * 1024
"""No line is longer, its end included: an account with 100,000 open holds has 20 MB."""

_SHOWN = 200
"""Characters of a cause that are shown."""


class NotRestored(Exception):
    """Why an archive was not taken over, in one line for whoever asked for it."""


class NotEmpty(NotRestored):
    """The store has something already, which is never mixed with what an archive has."""

    def __init__(self) -> None:
        super().__init__(
            "The store is not empty: an archive can only be taken over by one without teams, keys, "
            "budgets, usage and logged changes."
        )


class Record(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """One line between header and footer."""

    @property
    def name(self) -> str:
        """What tells it from all others of its kind."""
        raise NotImplementedError  # each kind says its own; a Struct cannot be an ABC

    @classmethod
    def kind(cls) -> str:
        """What its lines are tagged with."""
        return str(cls.__struct_config__.tag)


class CheckRecord(Record, frozen=True, tag="check"):
    """A check value, as `Store.check_value` keeps it."""

    check: str
    value: bytes

    @property
    def name(self) -> str:
        return self.check


class ClockRecord(Record, frozen=True, tag="clock"):
    """The latest time that anything was decided at: no store that takes over is to be before."""

    at: float

    @property
    def name(self) -> str:
        return "clock"


class TeamRecord(Record, frozen=True, tag="team"):
    """A team."""

    team: Team

    @property
    def name(self) -> str:
        return self.team.name


class KeyRecord(Record, frozen=True, tag="key"):
    """A key. Its team came before."""

    key: Key

    @property
    def name(self) -> str:
        return self.key.id


class UseRecord(Record, frozen=True, tag="use"):
    """When a key was last used."""

    key: str
    at: float

    @property
    def name(self) -> str:
        return self.key


class AccountRecord(Record, frozen=True, tag="account"):
    """An account with its open holds, and the version it stands at."""

    account: str
    version: Annotated[int, Meta(ge=1)]
    state: Account

    @property
    def name(self) -> str:
        return self.account


class AuditRecord(Record, frozen=True, tag="change"):
    """One line of the log of changes. `number` is its place by time, from 1."""

    number: Annotated[int, Meta(ge=1)]
    change: AuditEntry

    @property
    def name(self) -> str:
        return str(self.number)


class ClaimRecord(Record, frozen=True, tag="claim"):
    """What was done once only, such as telling people something: it is not to be done again."""

    claim: Claim

    @property
    def name(self) -> str:
        return self.claim.name


class EntryRecord(Record, frozen=True, tag="entry"):
    """One line of the usage history."""

    entry: Entry

    @property
    def name(self) -> str:
        return self.entry.id


KINDS: tuple[type[Record], ...] = (
    CheckRecord,
    ClockRecord,
    TeamRecord,
    KeyRecord,
    UseRecord,
    AccountRecord,
    AuditRecord,
    ClaimRecord,
    EntryRecord,
)
"""All kinds of records, in the order in which they come."""

_ORDER = {record.kind(): place for place, record in enumerate(KINDS)}


class Header(Struct, frozen=True, kw_only=True, tag_field="kind", tag="header"):
    """The first line. `made` is when, `gateway` the version of the gateway that did it."""

    format: str
    version: int
    made: float = 0.0
    gateway: str = ""


class _Footer(
    Struct, frozen=True, tag_field="kind", tag="footer", forbid_unknown_fields=True, kw_only=True
):
    counts: dict[str, int]
    sha256: str


T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_header = msgspec.json.Decoder(Header)
_line = msgspec.json.Decoder(
    CheckRecord
    | ClockRecord
    | TeamRecord
    | KeyRecord
    | UseRecord
    | AccountRecord
    | AuditRecord
    | ClaimRecord
    | EntryRecord
    | _Footer
)


class Writer:
    """Makes the lines of an archive: the header, then records in order, then the footer."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.counts: Counter[str] = Counter()

    def header(self, *, made: float, gateway: str) -> bytes:
        """The first line."""
        return self._add(
            Header(format=FORMAT, version=VERSION, made=made, gateway=gateway),
        )

    def lines(self, records: Iterable[Record]) -> bytes:
        """The records' lines."""
        return b"".join(map(self._record, records))

    def footer(self) -> bytes:
        """The last line."""
        return self._add(_Footer(counts=dict(self.counts), sha256=self._digest.hexdigest()))

    def _record(self, record: Record) -> bytes:
        self.counts[record.kind()] += 1
        return self._add(record)

    def _add(self, value: Struct) -> bytes:
        line = _encoder.encode(value) + b"\n"
        self._digest.update(line)
        return line


class Reader:
    """An archive's records, in order. Its last one has come only when iterating ends in peace.

    `lines` are the archive's, with their ends. Everything raises NotRestored.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._number = 0
        self._digest = hashlib.sha256()
        self._place = 0
        # Hashes of 64 bits, because there may be millions: some 60 bytes for each name.
        self._names: set[int] = set()
        self._totals = Totals()
        self.counts: Counter[str] = Counter()
        self.header = self._read_header()

    def __iter__(self) -> Iterator[Record]:
        while True:
            line = self._next()
            value = self._decoded(_line, line)
            if isinstance(value, _Footer):
                return self._check(value)
            self._digest.update(line)
            self._place_in_order(value)
            self._look_for_faults(value)
            self.counts[value.kind()] += 1
            yield value

    def _read_header(self) -> Header:
        line = self._next()
        try:
            header = _header.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            header = Header(format="", version=0)
        if header.format != FORMAT:
            raise NotRestored("This is no archive of a gateway's store.")
        if not 1 <= header.version <= VERSION:
            raise NotRestored(
                f"The archive is of version {header.version}, and this gateway knows versions up "
                f"to {VERSION}: import it with the gateway that made it, or a newer one."
            )
        self._digest.update(line)
        return header

    def _next(self) -> bytes:
        self._number += 1
        line = next(self._lines, b"")
        if not line and self._number == 1:
            raise NotRestored("The archive is empty.")
        if not line:
            raise NotRestored(f"The archive is cut off: it ends after line {self._number - 1}.")
        if not line.endswith(b"\n"):
            if len(line) >= LINE_BYTES:
                raise NotRestored(f"Line {self._number} is too long to be an archive's.")
            raise NotRestored(f"The archive is cut off: it ends within line {self._number}.")
        return line

    def _decoded(self, decoder: "msgspec.json.Decoder[T]", line: bytes) -> T:
        try:
            return decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # It may repeat a part of the line, with whatever is in there.
            cause = str(error)[:_SHOWN].encode("unicode_escape").decode()
            raise NotRestored(f"Line {self._number} is damaged or unknown: {cause}.") from error

    def _place_in_order(self, record: Record) -> None:
        kind = record.kind()
        place = _ORDER[kind]
        if place < self._place:
            raise NotRestored(f"Line {self._number} is out of order: {kind}.")
        self._place = place
        if isinstance(record, KeyRecord) and hash(("team", record.key.team)) not in self._names:
            raise NotRestored(f"Line {self._number} has a key of a team that is not there.")
        name = hash((kind, record.name))
        if name in self._names:
            raise NotRestored(f"Line {self._number} says again what a line before said: {kind}.")
        self._names.add(name)

    def _look_for_faults(self, record: Record) -> None:
        cause = fault(record, record.kind())
        if cause is None and isinstance(record, EntryRecord):
            cause = self._totals.fault(record.entry)
        if cause is not None:
            raise NotRestored(f"Line {self._number} says what cannot be: {cause}.")

    def _check(self, footer: _Footer) -> None:
        if next(self._lines, b""):
            raise NotRestored(f"There is more after line {self._number}, the archive's last.")
        if footer.counts != dict(self.counts) or footer.sha256 != self._digest.hexdigest():
            raise NotRestored("The archive is damaged: its lines are not those it was made with.")


_COUNTED = {
    "team": ("team", "teams"),
    "key": ("key", "keys"),
    "account": ("account", "accounts"),
    "change": ("logged change", "logged changes"),
    "entry": ("usage entry", "usage entries"),
}


def summary(counts: Mapping[str, int]) -> str:
    """What an archive has, for people: such as `1 team, 3 keys`."""
    numbers = [(counts.get(kind, 0), words) for kind, words in _COUNTED.items()]
    return ", ".join(f"{number:,} {words[number != 1]}" for number, words in numbers)


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
