"""Quota steps with ordinary values, and a bench that applies them without a store."""

from typing import Any

from msgspec.structs import replace

from gateway.core.model import Entry, Limits
from gateway.quota.account import EMPTY, GATEWAY, Account, team_account
from gateway.quota.operations import Operation, Operations, Wish
from gateway.quota.purchase import KeptEntry, Purchase
from gateway.quota.step import Step, StepResult
from gateway.quota.steps import Denied, Held, Release, Reserve, Settle

NOON = 1_772_366_400.0
"""2026-03-01 12:00:00 UTC."""


def reserve(id: str = "r1", team: str = "red", images: int = 1, **fields: Any) -> Reserve:
    """A reservation of `images` at 40,000 micro-dollars each, without limits."""
    values: dict[str, Any] = {
        "key": "k1",
        "model": "gpt-image-2",
        "size": "1024x1024",
        "quality": "high",
        "cost": images * 40_000,
        "lease": 305.0,
        "limits": Limits(),
        "gateway_limits": Limits(),
        **fields,
    }
    return Reserve(id=id, team=team, images=images, **values)


def wish(**fields: Any) -> Wish:
    """A request at gateway "here" that arrives now."""
    values: dict[str, Any] = {
        "name": "key:body",
        "gateway": "here",
        "request": "r2",
        "fresh": False,
        "is_retry": False,
        "age": 0.0,
        "hold_seconds": 60.0,
        "shared": True,
        **fields,
    }
    return Wish(**values)


def settle(
    id: str = "r1",
    team: str = "red",
    images: int = 1,
    cost: int | None = None,
    unknown: bool = False,
) -> Settle:
    """A settlement, at 40,000 micro-dollars an image by default."""
    cost = images * 40_000 if cost is None else cost
    return Settle(id=id, team=team, images=images, cost=cost, unknown=unknown)


def release(id: str = "r1", team: str = "red", forget: bool = False) -> Release:
    """The end of a purchase that delivered nothing."""
    return Release(id=id, team=team, forget=forget)


class Bench:
    """Accounts in memory, a clock that the test sets, usage entries and records of purchases.

    `operations` are the records of operations, by name.
    """

    def __init__(self, now: float = NOON) -> None:
        self.now = now
        self.accounts: dict[str, Account] = {}
        self.entries: dict[str, Entry] = {}
        self.records: dict[str, Purchase] = {}
        self.operations: dict[str, Operations] = {}

    def apply(self, step: Step[Any]) -> StepResult[Any]:
        """Apply a step the way the ledger does: it sees only what it names."""
        seen = {name: self.accounts[name] for name in step.accounts if name in self.accounts}
        known = {name: self.operations[name] for name in {step.record} & self.operations.keys()}
        applied = step.apply(seen, self.now, known)
        assert set(applied.changes) <= set(step.accounts)
        assert applied.records.keys() <= {step.record}
        self.accounts.update(applied.changes)
        self.operations.update(applied.records)
        for entry in applied.entries:
            self.entries[entry.id] = entry
            self.records.pop(entry.id, None)
            if isinstance(entry, KeptEntry):
                self.records[entry.id] = entry.purchase
        return applied

    def settle(self, step: Settle) -> StepResult[Operation | None]:
        """Apply a settlement as the ledger does, which checks whether its purchase was lost."""
        unsure = step.unknown_hold(self.accounts, self.now) is not None
        return self.apply(replace(step, lost=unsure and step.id not in self.entries))

    def held(self, step: Reserve) -> Held:
        """Reserve, and be admitted."""
        outcome = self.apply(step).outcome
        assert isinstance(outcome, Held), outcome
        return outcome

    def refused(self, step: Reserve) -> Denied:
        """Reserve, and be refused without a trace."""
        applied = self.apply(step)
        assert isinstance(applied.outcome, Denied)
        assert not applied.changes
        assert not applied.entries
        return applied.outcome

    def team(self, name: str = "red") -> Account:
        """A team's account."""
        return self.accounts.get(team_account(name), EMPTY)

    @property
    def gateway(self) -> Account:
        """The gateway-wide account."""
        return self.accounts.get(GATEWAY, EMPTY)
