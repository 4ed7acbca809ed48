"""The ports of the ledger: the store of accounts, and the observer of events."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.model import Entry
from gateway.quota.account import Account


class Loaded(Struct, frozen=True):
    """Accounts as of one moment, each with its version, and that moment.

    An account that was never written is `EMPTY` with version 0. `now` is the store's clock:
    seconds since the epoch. It never runs backwards, not even over a restart.
    """

    accounts: list[tuple[Account, int]]
    now: float


class Change(Struct, frozen=True):
    """One account to write, if its version is still the one that was loaded."""

    name: str
    version: int
    account: Account


class AccountStore(Protocol):
    """Keeps budgets. Every method may raise StoreUnavailable, within about 2 seconds."""

    async def load(self, names: Sequence[str]) -> Loaded:
        """Return the named accounts, in order, as of one moment."""

    async def swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        """Write all accounts and entries, or none where a version has moved on (False).

        The account of a change gets the version loaded plus one. Where StoreUnavailable is
        raised, the swap may have happened: a retry must be idempotent. Raises OverflowError, and
        writes nothing, where a number is too large to store.

        An entry replaces the one with its id, if both have the same `at` and the former was
        written within three days (a cache hit: within an hour). Later it may count a second time.
        """

    async def record(self, entries: Sequence[Entry]) -> None:
        """Write entries that change no budget, such as cache hits."""

    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        """Return which of these purchases have an entry. They map ids to reservation times.

        A store may know only those of the last three days. It may miss an entry that is written
        after the account was loaded, in a swap that changes that account too: then the caller's
        own swap fails.
        """

    async def due(self) -> list[str]:
        """Return the names of accounts with an expired lease, the earliest expiry first."""


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
