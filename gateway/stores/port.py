"""The small doors to the outside world, as the waiting floor sees them.

An adapter translates its own failures at this border: a store raises nothing but
`gateway.core.errors.StoreUnavailable`, an upstream nothing but `gateway.core.errors.UpstreamError`.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Protocol

from gateway.quota.store import AccountStore
from gateway.reporting.alerts.ports import ClaimStore
from gateway.reporting.store import ActivityStore, UsageStore
from gateway.stores.archive_format import Record
from gateway.tenants.store import AuditStore, DirectoryStore


class ArchiveStore(Protocol):
    """Where the whole state goes out and comes in. Every method may raise StoreUnavailable."""

    def export(self) -> AsyncGenerator[Sequence[Record], None]:
        """All that it holds, in batches and in an archive's order, as it stood at one moment.

        Gateways go on meanwhile. Accounts and usage agree: neither has what the other lacks.
        """

    async def restore(self, records: Iterable[Record]) -> None:
        """In the place of `open`: make the store of these records, all or none.

        They are as an archive's reader gives them; versions and the clock's mark come with them.
        Raises what `open` does, NotRestored where the store has teams, keys, accounts or usage
        already, and whatever iterating raises. One that was killed is never served from: it is
        undone, or can be begun again.
        """


class Store(
    AccountStore,
    DirectoryStore,
    UsageStore,
    AuditStore,
    ClaimStore,
    ActivityStore,
    ArchiveStore,
    Protocol,
):
    """All of it in one place, open until it is closed."""

    async def open(self) -> None:
        """Make it ready, and make what lacks.

        Raises UnusableStore where an operator has to act, StoreUnavailable where it is away.
        """

    async def close(self) -> None:
        """Finish what was begun and let go. Later operations raise StoreUnavailable."""

    async def check_value(self, name: str, value: bytes) -> bool:
        """Whether `value` is what was first given under `name`; the first one is kept."""

    async def confirm_reset(self) -> bool:
        """Accept that the store lost what it held: gateways that refuse it since go on with it.

        False where there is nothing to confirm. An operator's word, never a gateway's own.
        """
