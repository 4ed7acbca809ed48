"""The whole store: one part for each port, and what belongs to all of them together.

Each part's port is defined and documented beside the code that uses it. Adapters translate their
failures: methods raise `gateway.core.errors.StoreUnavailable`, and nothing else unless the port
says so.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Protocol, Self

from msgspec import Struct

from gateway.quota.store import AccountStore, PurchaseStore
from gateway.reporting.store import ClaimStore, HistoryStore, PictureStore, UsageStore
from gateway.stores.archive_format import ArchiveRecord
from gateway.tenants.store import AuditStore, DirectoryStore

Observe = Callable[[str, float, bool], None]
"""Receives each operation that ended: its name, its seconds, and whether the store answered.

As "went_back" it receives each account that lost writes.
"""


UNKNOWN = "unknown"
"""The value of a setting that the store's server does not show to this user."""


class StoreSetting(Struct, frozen=True):
    """A setting of the store's server. `risk` says what it may lose and what to set, or is None."""

    name: str
    value: str
    risk: str | None = None


class UnusableStore(Exception):
    """The store cannot be used until an operator acts. The text says how, in one line.

    It never becomes an HTTP response: the command line prints it.
    """


class ArchiveStore(Protocol):
    """Exports and imports the whole state. Every method may raise StoreUnavailable."""

    def export(self) -> AsyncGenerator[Sequence[ArchiveRecord], None]:
        """Yield all records in batches, in an archive's order, as of one moment.

        Gateways may write meanwhile. Accounts and usage still agree: each purchase is in both or
        in neither.
        """

    async def restore(self, records: Iterable[ArchiveRecord]) -> None:
        """Open the store and fill it with these records, all or none. Replaces `Store.open`.

        The records come from an archive's reader; versions and the clock's mark are restored
        too. Raises what `Store.open` raises, what iterating raises, and NotRestored where the
        store already has teams, keys, accounts, usage or audit entries. No gateway serves from an
        import that was killed: it is undone, or can be started again.
        """


class Store(ABC):
    """A store. As a context manager it opens on entry and closes on exit."""

    accounts: AccountStore
    directory: DirectoryStore
    usage: UsageStore
    audit: AuditStore
    claims: ClaimStore
    history: HistoryStore
    purchases: PurchaseStore
    pictures: PictureStore
    archive: ArchiveStore

    @abstractmethod
    async def open(self) -> None:
        """Create what is missing and check that gateways can use the store.

        Raises UnusableStore where an operator has to act, StoreUnavailable where the store is
        away; then it can be tried again.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish running operations and disconnect. Later operations raise StoreUnavailable."""

    @abstractmethod
    async def check_value(self, name: str, value: bytes) -> bool:
        """Keep the first value under `name`; return whether `value` equals it."""

    @abstractmethod
    async def confirm_reset(self) -> bool:
        """Accept that the store lost its data: gateways that refuse it use it again.

        Only an operator decides this, never a gateway. Returns False where no gateway waits.
        """

    async def settings(self) -> Sequence[StoreSetting]:
        """Return the server's settings that decide whether it may lose purchases.

        A store that is a file has none. Raises StoreUnavailable.
        """
        return ()

    async def server_id(self) -> str | None:
        """Return the id of the server's present run; None where the store is a file or hides it.

        Raises StoreUnavailable.
        """
        return None

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
