"""The events of the ledger, for metrics and alerts."""

from collections.abc import Mapping, Sequence

from gateway.core.model import Entry
from gateway.quota.account import Account


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
