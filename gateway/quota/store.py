"""The port through which the ledger reads and writes accounts."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.model import Entry
from gateway.quota.account import Account


class Loaded(Struct, frozen=True):
    """Accounts as they stood together at one moment, each with its version, and that moment.

    An account that was never written is `EMPTY` with version 0. `now` is the store's clock:
    seconds since the epoch; it never runs backwards, not even over a restart.
    """

    accounts: list[tuple[Account, int]]
    now: float


class Change(Struct, frozen=True):
    """One account to write, if its version is still the one that was loaded."""

    name: str
    version: int
    account: Account


class AccountStore(Protocol):
    """Where budgets live. Every method may raise StoreUnavailable, within about 2 seconds."""

    async def load(self, names: Sequence[str]) -> Loaded:
        """The named accounts, in order, as one consistent reading."""

    async def swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        """Write all accounts and entries, or none where a version has moved on (False).

        A change's account gets the version loaded plus one. When StoreUnavailable is raised the
        swap may have happened: whoever asks again must be idempotent. OverflowError is raised, and
        nothing written, where a number is none that can be kept.

        An entry replaces the one with its id, if that has the same `at` and was written within
        three days (one of a hit: within an hour). Later it may count beside it.
        """

    async def record(self, entries: Sequence[Entry]) -> None:
        """Write entries that touch no budget (hits)."""

    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        """Which of these purchases, by id and the time of their reservation, have an entry.

        It may be told of those of the last three days alone. What is written after an account was
        loaded, by whoever changes that account too, may be missed: then the swap is refused.
        """

    async def due(self) -> list[str]:
        """Names of the accounts with a hold whose lease has run out."""
