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
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.model import AuditEntry, Claim, Entry, Key, Team
from gateway.rules.account import Account
from gateway.rules.archive_checks import Totals, fault

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
