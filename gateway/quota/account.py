"""A team's whole quota state, its keys' included, as one small frozen value.

The same shape serves the gateway-wide account, which holds counters alone. A store keeps it as
bytes and compares versions; everything it means is decided in `gateway.quota.steps`.
"""

from msgspec import Struct

from gateway.core.periods import Window, day_of, month_of

GATEWAY = "gateway"
"""The name of the gateway-wide account. Team accounts are named by `team_account`."""

MINUTE_BUCKETS = 61
"""One-second counts that a minute can touch: with whole seconds, 60 of them would let a
reservation at 0.9 s meet one at 60.1 s, less than 60 s later. 61 keep the minute strict."""

MEMORY_SECONDS = 86_400
"""How long a swept hold is remembered for an outcome that arrives late."""


def team_account(team: str) -> str:
    """The name of a team's account in the store."""
    return f"team:{team}"


class Hold(Struct, frozen=True, array_like=True):
    """An admitted purchase whose outcome is not known yet, and what its usage entry will say.

    `lease` is when it may be swept: the upstream's deadline and a little more. `in_gateway` says
    whether the gateway-wide account holds it too, `in_key` whether the key's own counters do. `key`
    is the key's line.
    """

    at: float
    lease: float
    key: str
    model: str
    size: str
    quality: str
    images: int
    cost: int
    in_gateway: bool
    in_key: bool = False

    @property
    def day(self) -> int:
        return day_of(self.at)

    @property
    def month(self) -> int:
        return month_of(self.at)


class Counters(Struct, frozen=True, array_like=True):
    """Window counters and purchases by second, of a team or of one of its keys."""

    day: Window = Window()
    month: Window = Window()
    minute: tuple[tuple[int, int], ...] = ()

    def minute_at(self, now: float) -> tuple[tuple[int, int], ...]:
        """The one-second counts that still matter at `now`, oldest first."""
        first = int(now) - MINUTE_BUCKETS + 1
        return tuple(bucket for bucket in self.minute if bucket[0] >= first)

    def is_over(self, now: float) -> bool:
        """Whether nothing of it can matter at `now` or later. A month's end is a day's too."""
        return self.month.period < month_of(now) and not self.minute_at(now)


NOTHING = Counters()


class Account(Counters, frozen=True, array_like=True):
    """A team's counters, open holds by reservation id, holds swept lately, counters by key.

    Keys are told apart by their lines. Only those with limits of their own have counters, and
    only until these are over.
    """

    holds: dict[str, Hold] = {}
    swept: dict[str, Hold] = {}
    keys: dict[str, Counters] = {}

    @property
    def earliest_lease(self) -> float | None:
        """When the first open hold may be swept, or None without holds."""
        return min((hold.lease for hold in self.holds.values()), default=None)

    def of_key(self, line: str) -> "Account":
        """One key's part of it: what the key's own limits are held against."""
        counters = self.keys.get(line, NOTHING)
        holds = {id: hold for id, hold in self.holds.items() if hold.key == line}
        return Account(counters.day, counters.month, counters.minute, holds)


EMPTY = Account()
