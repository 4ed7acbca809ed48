"""A deliberately naive model of the quota rules: a list of all purchases, summed every time.

It shares no code with the rules except the types of `gateway.core.model`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from gateway.core.model import Limits

State = Literal["open", "swept", "closed"]
Sums = tuple[int, int, int, int]
"""Images and cost charged, images and cost held."""

Owner = str | tuple[str, str]
"""An owner of limits: a team, "" for the gateway, or a team and one of its keys."""

KINDS = ("passes", "resets", "never")


def day(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%d")


def month(at: float) -> str:
    return day(at)[:7]


@dataclass
class Purchase:
    """One admitted purchase. `entry` is its expected usage line, or None."""

    id: str
    team: str
    key: str
    at: float
    lease: float
    images: int
    cost: int
    in_gateway: bool
    in_key: bool
    state: State = "open"
    forgotten: bool = False
    charged: tuple[int, int] = (0, 0)
    entry: tuple[str, int, int, int] | None = None

    @property
    def sums(self) -> Sums:
        """The owners whose limits it counts for."""
        return (0, 0, self.images, self.cost) if self.state == "open" else (*self.charged, 0, 0)


@dataclass
class Naive:
    """All purchases that were ever admitted."""

    purchases: dict[str, Purchase] = field(default_factory=dict)

    def of(self, owner: Owner) -> list[Purchase]:
        """The purchases that count for an owner; for a key, those since it has limits."""
        return [
            p
            for p in self.purchases.values()
            if p.team == owner
            or (not owner and p.in_gateway)
            or ((p.team, p.key) == owner and p.in_key)
        ]

    def sums(self, owner: Owner, period: str) -> Sums:
        """The sums of an owner in a day ("2026-03-01") or a month ("2026-03")."""
        return total(p.sums for p in self.of(owner) if day(p.at).startswith(period))

    def open(self, owner: Owner) -> list[Purchase]:
        """The open purchases of a team or a key, whether they count for the key or not."""
        return [
            p
            for p in self.purchases.values()
            if p.state == "open" and owner in (p.team, (p.team, p.key))
        ]

    # -- whether it would be admitted -----------------------------------------------------------

    def refusals(
        self, owner: Owner, limits: Limits, images: int, cost: int, now: float
    ) -> Iterable[tuple[str, str]]:
        """Each limit that refuses, with its kind of KINDS."""
        for span, period in (("day", day(now)), ("month", month(now))):
            spent, paid, held, owed = self.sums(owner, period)
            most = getattr(limits, f"images_per_{span}")
            if most is not None and spent + held + images > most:
                yield f"images_per_{span}", "never" if images > most else "resets"
            most = getattr(limits, f"cost_per_{span}")
            if most is not None and paid + owed + cost > most:
                kind = "never" if cost > most else "resets" if paid + cost > most else "passes"
                yield f"cost_per_{span}_usd", kind
        if owner:
            yield from self._pace(owner, limits, now)

    def _pace(self, owner: Owner, limits: Limits, now: float) -> Iterable[tuple[str, str]]:
        most = limits.requests_per_minute
        # Whole seconds: what was bought in the second that a minute ago lies in counts as well.
        lately = [p for p in self.of(owner) if int(p.at) >= int(now) - 60]
        if most is not None and len(lately) >= most:
            yield "requests_per_minute", "passes" if most else "never"
        most = limits.concurrent_requests
        if most is not None and len(self.open(owner)) >= most:
            yield "concurrent_requests", "passes" if most else "never"

    # -- what happens ---------------------------------------------------------------------------

    def admit(self, purchase: Purchase) -> None:
        self.purchases[purchase.id] = purchase
        self._forget(purchase.team, purchase.at)

    def admit_again(self, purchase: Purchase, now: float) -> None:
        """Close a purchase that the store had lost."""
        self.purchases[purchase.id] = purchase
        self._forget(purchase.team, now)

    def close(
        self, id: str, team: str, images: int, cost: int, outcome: str, forget: bool = False
    ) -> None:
        """Close a purchase with its outcome, unless it is closed already."""
        purchase = self.purchases.get(id)
        if purchase is None or purchase.team != team:
            return
        if purchase.state == "closed" or purchase.forgotten:
            return
        if purchase.state == "swept" and outcome == "unknown":
            return  # charged already, and perhaps refunded
        if not forget or purchase.state == "swept":
            unknown = images if outcome == "unknown" else 0
            purchase.entry = (outcome, images, unknown, cost)
        purchase.state, purchase.charged = "closed", (images, cost)

    def refund(self, id: str) -> None:
        """Take back an unknown charge. The outcome of a swept purchase may still come."""
        purchase = self.purchases[id]
        purchase.charged, purchase.entry = (0, 0), ("failed", 0, 0, 0)

    def sweep(self, team: str, now: float) -> int:
        """Charge expired leases as unknown; returns how many there were."""
        due = [p for p in self.open(team) if p.lease <= now]
        if due:
            self._forget(team, now)
        for p in due:
            p.state, p.charged = "swept", (p.images, p.cost)
            p.entry = ("unknown", p.images, p.images, p.cost)
        return len(due)

    def _forget(self, team: str, now: float) -> None:
        for p in self.of(team):
            p.forgotten |= p.state == "swept" and p.lease + 24 * 3600 <= now


def total(rows: Iterable[Sums]) -> Sums:
    """The sum of each column."""
    columns = [sum(column) for column in zip(*rows, strict=True)] or [0, 0, 0, 0]
    return columns[0], columns[1], columns[2], columns[3]
