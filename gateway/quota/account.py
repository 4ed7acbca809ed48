"""The quota state of a team and its keys, as one small frozen value.

The account of the gateway itself has the same type and only uses the counters. A store keeps an
account as bytes and compares versions. All rules are in `gateway.quota.steps`.
"""

from msgspec import Struct

from gateway.core.periods import PeriodUsage, month_of

GATEWAY = "gateway"
"""The name of the gateway's own account."""

MINUTE_BUCKETS = 61
"""The one-second counts that a minute can touch. With 60 of them, a reservation at 0.9 s could meet
one at 60.1 s, less than 60 s later."""

MEMORY_SECONDS = 86_400
"""How long a swept hold is remembered for an outcome that arrives late."""


def team_account(team: str) -> str:
    """Return the name of a team's account in the store."""
    return f"team:{team}"


class Hold(Struct, frozen=True, array_like=True):
    """An admitted purchase without an outcome yet, with the fields of its usage entry.

    It may be swept after `lease`: the deadline of the upstream call and a little more. `key` is
    the line of the key. `in_gateway` and `in_key` mean that the gateway's account and the key's
    own counters hold the purchase too.
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


class Counters(Struct, frozen=True, array_like=True):
    """The usage of each period, and the purchases of each second, of a team or a key."""

    day: PeriodUsage = PeriodUsage()
    month: PeriodUsage = PeriodUsage()
    minute: tuple[tuple[int, int], ...] = ()

    def minute_at(self, now: float) -> tuple[tuple[int, int], ...]:
        """Return the one-second counts that still matter at `now`, oldest first."""
        first = int(now) - MINUTE_BUCKETS + 1
        return tuple(bucket for bucket in self.minute if bucket[0] >= first)

    def is_over(self, now: float) -> bool:
        """Whether nothing in the counters matters at `now`. The end of a month also ends a day."""
        return self.month.period < month_of(now) and not self.minute_at(now)


NOTHING = Counters()


class Account(Counters, frozen=True, array_like=True):
    """A team's counters, its open holds by reservation id, its swept holds, its keys' counters.

    Keys are identified by their line. Only keys with limits have counters, and only as long as
    the counters matter.
    """

    holds: dict[str, Hold] = {}
    swept: dict[str, Hold] = {}
    keys: dict[str, Counters] = {}

    @property
    def earliest_lease(self) -> float | None:
        """When the first open hold may be swept, or None without holds."""
        return min((hold.lease for hold in self.holds.values()), default=None)

    def of_key(self, line: str) -> "Account":
        """Return the part of the account that the limits of a key apply to."""
        counters = self.keys.get(line, NOTHING)
        holds = {id: hold for id, hold in self.holds.items() if hold.key == line}
        return Account(counters.day, counters.month, counters.minute, holds)


EMPTY = Account()
