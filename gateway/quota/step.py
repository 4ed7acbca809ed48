"""A step: a change of accounts and of records of operations, decided without waiting.

A step is pure: `(accounts, now, records) -> StepResult`. See `gateway.quota.steps`.
"""

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from gateway.core.model import Entry
from gateway.quota.account import Account
from gateway.quota.operations import Operations

Accounts = Mapping[str, Account]
Records = Mapping[str, Operations]
"""Records of operations by name."""

NO_RECORDS: Records = {}

T = TypeVar("T")


class StepResult(Struct, Generic[T], frozen=True):
    """A step's result: the accounts it changed, its outcome, and the usage entries it wrote.

    `records` are the records of operations that it changed.
    """

    changes: dict[str, Account]
    outcome: T
    entries: tuple[Entry, ...] = ()
    records: dict[str, Operations] = {}


class Step(Protocol[T]):
    """A change of accounts."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of the accounts that `apply` reads."""

    @property
    def record(self) -> str:
        """The name of the record of operations that `apply` reads; "" for none."""

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> "StepResult[T]":
        """Return the result at `now`. What was never written may be absent."""


def record_change(name: str, before: Operations, after: Operations) -> dict[str, Operations]:
    """Return the record if it changed: writing an equal one would only make other swaps fail."""
    same = after.all == before.all and (not after.all or after.succeeded == before.succeeded)
    return {} if same else {name: after}
