"""The archive format: the whole state of a store as lines of JSON, the same from any store.

    {"kind":"header","format":"gateway-archive","version":5,...}
    {"kind":"check",...}      which pepper the keys belong to, first of all
    {"kind":"clock",...}      then the clock's mark, teams, keys, their uses, accounts, the audit
    {"kind":"team",...}       log, claims that are done, usage entries and purchases, in this order
    ...
    {"kind":"footer","counts":{"check":1,...},"sha256":"..."}

It holds no secret: keys are there by their digests, as in the store. Money is whole micro-dollars,
bytes are base64, and an account is an array without field names, as stores keep it.

The reader trusts nothing. One bad line makes it refuse the whole archive: a damaged or unknown one,
one out of order, a duplicate, or a value that no store can hold. It also refuses an archive that is
cut off or does not match its checksum (SHA-256 of all lines before the footer).

A change that adds a field to any record raises `VERSION`, because an older gateway would lose the
field unnoticed. New fields have defaults, so that old archives stay readable.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, ClassVar, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

from gateway.core.model import AuditEntry, Claim, Entry, Key, Team
from gateway.core.periods import day_of, month_of
from gateway.quota.account import Account, Counters
from gateway.quota.purchase import Purchase
from gateway.stores.sums import SUMS
from gateway.tenants.changes import OperationError
from gateway.tenants.store import DirectoryWrite

FORMAT = "gateway-archive"
VERSION = 5

LINE_BYTES = 64 * 1024 * 1024
"""The longest line, its end included: an account with 100,000 open holds has 20 MB."""

MOST = 2**53 - 1
"""The largest number, and the largest sum of a whole history: nine billion dollars in
micro-dollars. Below it no store's sums overflow."""

TEXT_CHARACTERS = 1_000
"""The longest text. Ours have at most 64 characters; names of models and people may have more."""

VALUE_BYTES = 1_000
"""The longest digest or check value."""

NOTE_BYTES = 10_000
"""The longest note of a claim: an alert's text, its receiver and the result."""

END_OF_TIME = 253_370_764_800.0
"""The first second of the year 9999. Earlier times are dates in every time zone."""

_CAUSE_CHARACTERS = 200
"""The longest part of a cause that a message shows."""


class NotRestored(OperationError):
    """The archive cannot be imported."""


class NotEmpty(NotRestored):
    """The store already has data, and an import never mixes two states."""

    def __init__(self) -> None:
        super().__init__(
            "The store is not empty: an archive can only be imported into a store without teams, "
            "keys, budgets, usage and audit log."
        )


class ArchiveRecord(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """One line between header and footer."""

    identity: ClassVar["attrgetter[Any]"]
    """Reads the field that identifies a record among those of its kind."""

    @property
    def name(self) -> str:
        """The record's identity as text."""
        return str(type(self).identity(self))

    @classmethod
    def kind(cls) -> str:
        """The tag of its lines."""
        return str(cls.__struct_config__.tag)


class CheckRecord(ArchiveRecord, frozen=True, tag="check"):
    """A check value, as `Store.check_value` keeps it."""

    identity: ClassVar = attrgetter("check")
    check: str
    value: bytes


class ClockRecord(ArchiveRecord, frozen=True, tag="clock"):
    """The latest time that a decision was made at. The new store's clock continues from there."""

    identity: ClassVar = attrgetter("__class__")  # there is only one clock
    at: float


class TeamRecord(ArchiveRecord, frozen=True, tag="team"):
    """A team."""

    identity: ClassVar = attrgetter("team.name")
    team: Team


class KeyRecord(ArchiveRecord, frozen=True, tag="key"):
    """A key. Its team came before."""

    identity: ClassVar = attrgetter("key.id")
    key: Key


class UseRecord(ArchiveRecord, frozen=True, tag="use"):
    """When a key was last used."""

    identity: ClassVar = attrgetter("key")
    key: str
    at: float


class AccountRecord(ArchiveRecord, frozen=True, tag="account"):
    """An account with its open holds, and its version."""

    identity: ClassVar = attrgetter("account")
    account: str
    version: Annotated[int, Meta(ge=1)]
    state: Account


class AuditRecord(ArchiveRecord, frozen=True, tag="change"):
    """One entry of the audit log. `number` is its place by time, from 1."""

    identity: ClassVar = attrgetter("number")
    number: Annotated[int, Meta(ge=1)]
    change: AuditEntry


class ClaimRecord(ArchiveRecord, frozen=True, tag="claim"):
    """A claim that is done, such as an alert delivered: the new store must not repeat it."""

    identity: ClassVar = attrgetter("claim.name")
    claim: Claim


class EntryRecord(ArchiveRecord, frozen=True, tag="entry"):
    """One entry of the usage history."""

    identity: ClassVar = attrgetter("entry.id")
    entry: Entry


class PurchaseRecord(ArchiveRecord, frozen=True, tag="purchase"):
    """A purchase that was charged as unknown. Its charge or its refund is in the usage before."""

    identity: ClassVar = attrgetter("purchase.id")
    purchase: Purchase


def directory_and_entries(records: Sequence[ArchiveRecord]) -> tuple[DirectoryWrite, list[Entry]]:
    """Return the teams, keys, audit entries and usage entries of some records.

    A store imports these in batches, as it writes them otherwise.
    """
    write = DirectoryWrite(
        teams=[record.team for record in records if isinstance(record, TeamRecord)],
        keys=[record.key for record in records if isinstance(record, KeyRecord)],
        audit=[record.change for record in records if isinstance(record, AuditRecord)],
    )
    return write, [record.entry for record in records if isinstance(record, EntryRecord)]


class ArchiveHeader(Struct, frozen=True, kw_only=True, tag_field="kind", tag="header"):
    """The first line: when the archive was made, and by which version of the gateway."""

    format: str
    version: int
    made: float = 0.0
    gateway: str = ""


class _Footer(Struct, frozen=True, tag_field="kind", tag="footer", forbid_unknown_fields=True):
    counts: dict[str, int]
    sha256: str


_Line = (
    CheckRecord
    | ClockRecord
    | TeamRecord
    | KeyRecord
    | UseRecord
    | AccountRecord
    | AuditRecord
    | ClaimRecord
    | EntryRecord
    | PurchaseRecord
    | _Footer
)
"""All lines after the header, in their order."""

_ORDER = {line.__struct_config__.tag: place for place, line in enumerate(get_args(_Line))}

_decode_header = msgspec.json.Decoder(ArchiveHeader).decode
_decode_line = msgspec.json.Decoder(_Line).decode


class ArchiveWriter:
    """Makes the lines of an archive: the header, then records in order, then the footer."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.counts: Counter[str] = Counter()

    def header(self, *, made: float, gateway: str) -> bytes:
        """Return the first line."""
        return self._add(ArchiveHeader(format=FORMAT, version=VERSION, made=made, gateway=gateway))

    def lines(self, records: Iterable[ArchiveRecord]) -> bytes:
        """Return the records' lines."""
        return b"".join(map(self._add, records))

    def footer(self) -> bytes:
        """Return the last line."""
        return self._add(_Footer(counts=dict(self.counts), sha256=self._digest.hexdigest()))

    def _add(self, value: Struct) -> bytes:
        if isinstance(value, ArchiveRecord):
            self.counts[value.kind()] += 1
        line = msgspec.json.encode(value) + b"\n"
        self._digest.update(line)
        return line


class ArchiveReader:
    """Yields an archive's records in order. The archive is whole once iteration has ended.

    `lines` are the archive's, with their line ends. Every method raises NotRestored.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._number = 0
        self._digest = hashlib.sha256()
        self._place = 0
        # Hashes of 64 bits, because there may be millions: some 60 bytes for each name.
        self._names: set[int] = set()
        self._sums = dict.fromkeys(SUMS, 0)
        self.counts: Counter[str] = Counter()
        self._check_header()

    def __iter__(self) -> Iterator[ArchiveRecord]:
        while True:
            line = self._next()
            value = self._decoded(line)
            if isinstance(value, _Footer):
                return self._check_footer(value)
            self._digest.update(line)
            self._check_place(value)
            cause = fault(value, value.kind())
            if cause is None and isinstance(value, EntryRecord):
                cause = self._sum_fault(value.entry)
            if cause is not None:
                raise NotRestored(f"Line {self._number} has an impossible value: {cause}.")
            self.counts[value.kind()] += 1
            yield value

    def _check_header(self) -> None:
        line = self._next()
        try:
            header = _decode_header(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            header = ArchiveHeader(format="", version=0)
        if header.format != FORMAT:
            raise NotRestored("This is not an archive of a gateway's store.")
        if not 1 <= header.version <= VERSION:
            raise NotRestored(
                f"The archive has version {header.version}, and this gateway knows versions up "
                f"to {VERSION}: import it with the gateway that made it, or a newer one."
            )
        self._digest.update(line)

    def _next(self) -> bytes:
        self._number += 1
        line = next(self._lines, b"")
        if not line and self._number == 1:
            raise NotRestored("The archive is empty.")
        if not line:
            raise NotRestored(f"The archive is cut off: it ends after line {self._number - 1}.")
        if not line.endswith(b"\n"):
            if len(line) >= LINE_BYTES:
                raise NotRestored(f"Line {self._number} is too long for an archive.")
            raise NotRestored(f"The archive is cut off: it ends within line {self._number}.")
        return line

    def _decoded(self, line: bytes) -> _Line:
        try:
            value: _Line = _decode_line(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # The cause may repeat a part of the line, with any characters.
            cause = str(error)[:_CAUSE_CHARACTERS].encode("unicode_escape").decode()
            raise NotRestored(f"Line {self._number} is damaged or unknown: {cause}.") from error
        return value

    def _check_place(self, record: ArchiveRecord) -> None:
        """Check the order of kinds, that a key's team came before, and that nothing comes twice."""
        kind = record.kind()
        place = _ORDER[kind]
        if place < self._place:
            raise NotRestored(f"Line {self._number} is out of order: {kind}.")
        self._place = place
        if isinstance(record, KeyRecord) and hash(("team", record.key.team)) not in self._names:
            raise NotRestored(f"Line {self._number} has a key whose team does not exist.")
        name = hash((kind, record.name))
        if name in self._names:
            raise NotRestored(f"Line {self._number} repeats an earlier line: {kind}.")
        self._names.add(name)

    def _sum_fault(self, entry: Entry) -> str | None:
        """Add an entry to the sums of the history; say which sum is too large now, or None."""
        for name in SUMS:
            self._sums[name] += getattr(entry, name)
            if self._sums[name] > MOST:
                return f"{name} is too much together with the entries before"
        return None

    def _check_footer(self, footer: _Footer) -> None:
        if next(self._lines, b""):
            raise NotRestored(f"There is more after line {self._number}, the archive's last.")
        if footer.counts != dict(self.counts) or footer.sha256 != self._digest.hexdigest():
            raise NotRestored("The archive is damaged: it does not match its checksum.")


# -- values ---------------------------------------------------------------------------------------

_LAST_MONTH = month_of(END_OF_TIME - 1)

_ANY_VALUE = ("before", "after")
"""Fields of an audit entry that may hold anything."""


def fault(value: Any, name: str) -> str | None:
    """Say what is impossible in a value or anything inside it, or return None. Floats are times."""
    kind = type(value)
    if kind is int:
        return None if 0 <= value <= MOST else f"{name} is not between 0 and {MOST}"
    if kind is str:
        return None if len(value) <= TEXT_CHARACTERS else f"{name} is too long"
    if kind is float:  # NaN fails this too
        return None if 0 <= value < END_OF_TIME else f"{name} is not a time from 1970 to 9998"
    if kind is bytes:
        most = NOTE_BYTES if name == "note" else VALUE_BYTES
        return None if len(value) <= most else f"{name} is too long"
    if isinstance(value, Counters) and _has_no_date(value):
        return f"{name} counts a time that is not from 1970 to 9998"
    for field, part in _parts(value, name):
        if part is not None and field not in _ANY_VALUE and (cause := fault(part, field)):
            return cause
    return None


def _parts(value: Any, name: str) -> Iterable[tuple[str, Any]]:
    """Return the values in a value, each under the name of its field."""
    if isinstance(value, Struct):
        return zip(value.__struct_fields__, astuple(value), strict=True)
    if isinstance(value, Mapping):
        return [(name, part) for pair in value.items() for part in pair]
    return [(name, part) for part in value] if isinstance(value, list | tuple) else ()


def _has_no_date(counters: Counters) -> bool:
    """Whether it counts a period or a second that no date can show."""
    day, month = counters.day.period, counters.month.period
    latest = max((second for second, _ in counters.minute), default=0)
    return day >= day_of(END_OF_TIME) or month > _LAST_MONTH or latest >= END_OF_TIME
