"""The ports of the ledger: the store of accounts, and the observer of events."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.model import AuditEntry, Entry, EntryOutcome
from gateway.quota.account import Account
from gateway.quota.operations import Operations
from gateway.quota.purchase import Place, Purchase, PurchaseFilter, RecordState


class Loaded(Struct, frozen=True):
    """Accounts as of one moment, each with its version, and that moment.

    An account that was never written is `EMPTY` with version 0. `now` is the store's clock:
    seconds since the epoch. It never runs backwards, not even over a restart. `records` are records
    of operations, each with its stamp. One that does not exist is `NONE` with the stamp b"".
    """

    accounts: list[tuple[Account, int]]
    now: float
    records: list[tuple[Operations, bytes]] = []


class Change(Struct, frozen=True):
    """One account to write, if its version is still the one that was loaded."""

    name: str
    version: int
    account: Account


class RecordChange(Struct, frozen=True):
    """One record of operations to write, if its stamp is still the one that was loaded.

    Each state that is written gets a new stamp. A record without operations is deleted.
    """

    name: str
    stamp: bytes
    operations: Operations


class AccountStore(Protocol):
    """Keeps budgets, and the operations of purchases beside them.

    Every method may raise StoreUnavailable, within about 2 seconds.
    """

    async def load(self, names: Sequence[str], records: Sequence[str] = ()) -> Loaded:
        """Return the named accounts and records of operations, in order, as of one moment."""

    async def swap(
        self,
        changes: Sequence[Change],
        entries: Sequence[Entry],
        records: Sequence[RecordChange] = (),
        audit: Sequence[AuditEntry] = (),
    ) -> bool:
        """Write everything, or nothing where a version or a stamp has moved on (False).

        The account of a change gets the version loaded plus one. Where StoreUnavailable is
        raised, the swap may have happened: a retry must be idempotent. Raises OverflowError, and
        writes nothing, where a number is too large to store.

        An entry replaces the one with its id, if both have the same `at` and the former was
        written within three days (a cache hit: within an hour). Later it may count a second time.

        A `KeptEntry` also writes the record of its purchase; any other entry of a purchase removes
        the record. An entry of a refund replaces the unknown charge however old that is. If there
        is no record of an unknown charge, nothing is written (False).
        """

    async def record(self, entries: Sequence[Entry]) -> None:
        """Write entries that change no budget, such as cache hits."""

    async def probe(self, *, thorough: bool) -> None:
        """Write the way a swap does, but change no account. Raises StoreUnavailable.

        With `thorough` it writes as much as a purchase does, otherwise as little as possible.
        """

    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        """Return which of these purchases have an entry. They map ids to reservation times.

        A store may know only those of the last three days. It may miss an entry that is written
        after the account was loaded, in a swap that changes that account too: then the caller's
        own swap fails.
        """

    async def due(self) -> list[str]:
        """Return the names of accounts with an expired lease, the earliest expiry first."""

    async def keep_alive(self, gateway: str, seconds: float) -> None:
        """Extend the lease of a gateway's running operations to so many seconds from now."""

    async def alive(self, gateways: Iterable[str]) -> dict[str, float]:
        """Return when the leases of these gateways end or ended, as far as that is known."""

    async def forget_operations(self, most: int) -> None:
        """Delete the records of operations that have ended.

        Where more than `most` are left, those that are expendable are deleted too: the oldest
        that cost nothing, then the oldest that were bought.
        """


class PurchaseStore(Protocol):
    """Reads the records of purchases that were charged as unknown, and of their refunds.

    They are kept for as long as usage. Every method may raise StoreUnavailable.
    """

    async def find(self, id: str) -> Purchase | None:
        """Return the record of the purchase with this id, None where there is none."""

    async def page(
        self,
        wanted: PurchaseFilter,
        state: RecordState | None,
        limit: int,
        before: Place | None = None,
    ) -> list[Purchase]:
        """Return up to `limit` of the wanted records, in this state or any, the latest first.

        With `before` they come before that place.
        """

    async def outcome(self, id: str) -> EntryOutcome | None:
        """Return the outcome of a purchase by its usage entry.

        A store may know only those of the last three days.
        """


class LedgerObserver:
    """Receives the ledger's events. Each method does nothing until a subclass overrides it."""

    def accounts_seen(self, accounts: Mapping[str, Account]) -> None:
        """Receive accounts that were just read or written, by name."""

    def holds_swept(self, entries: Sequence[Entry]) -> None:
        """Receive the usage entries of expired holds, which were charged as unknown."""

    def lost_purchase_settled(self) -> None:
        """A purchase was settled although the store had lost its hold."""


NO_OBSERVER = LedgerObserver()
"""For ledgers that run without listeners."""
