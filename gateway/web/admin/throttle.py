"""Slows down wrong admin tokens: bearer tokens and sign-ins together.

The right token must never wait, or an attacker could lock out the admins. So every token is
compared at once, and only the answer to a wrong one is delayed. That bounds the guesses of each
connection, the log lines and the work, but not what somebody with many connections can learn. The
length of tokens bounds that: at least 16 characters, and 256 random bits from `gateway admin
token`. A delay reveals nothing that the refusal itself does not.

Each network has a burst that is answered at once, and so has everybody together. Beyond it, each
wrong token waits behind the ones before.
"""

from collections import OrderedDict
from collections.abc import Callable

from gateway.web.addresses import client_network

BURST = 10
SECONDS_EACH = 1.0
"""The gateway answers so many wrong tokens of a network at once, then one every so many seconds."""

TOTAL_BURST = 30
TOTAL_SECONDS_EACH = 0.1
"""The same for all networks together."""

SIGN_IN = 2
"""A wrong sign-in counts like so many wrong bearer tokens: people sign in by hand."""

LONGEST_SECONDS = 10.0
"""The longest delay of an answer."""

ROUNDING_SECONDS = 0.001
"""A shorter delay is none: sums of seconds are not exact."""

MOST_NETWORKS = 10_000
"""How many networks are remembered. Beyond that, the gateway forgets the oldest failure."""


class Pace:
    """A burst of `burst` events, then one every `seconds_each`. Times are in seconds.

    Delays are at most `LONGEST_SECONDS`, however many events come.
    """

    def __init__(self, burst: int, seconds_each: float) -> None:
        self._seconds_each = seconds_each
        self._tolerance = (burst - 1) * seconds_each
        self._free_at = 0.0  # when the whole burst is allowed again

    def delay(self, now: float) -> float:
        """The delay of the next event, 0 for none."""
        delay = self._free_at - self._tolerance - now
        return delay if delay > ROUNDING_SECONDS else 0.0

    def count(self, now: float, events: int = 1) -> None:
        """Count events."""
        busy = max(self._free_at, now) + events * self._seconds_each
        self._free_at = min(busy, now + self._tolerance + LONGEST_SECONDS)


class Throttle:
    """Delays for wrong tokens. `clock` counts seconds and never runs backwards."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._total = Pace(TOTAL_BURST, TOTAL_SECONDS_EACH)
        self._networks = OrderedDict[str, Pace]()

    def __contains__(self, address: str) -> bool:
        """Whether a wrong token of this network is remembered."""
        return client_network(address) in self._networks

    def __len__(self) -> int:
        return len(self._networks)

    def fail(self, address: str, events: int = 1) -> float:
        """Count a wrong token. Return the seconds by which to delay its answer, 0 for none."""
        now, network = self._clock(), client_network(address)
        pace = self._networks.setdefault(network, Pace(BURST, SECONDS_EACH))
        self._networks.move_to_end(network)
        if len(self._networks) > MOST_NETWORKS:
            self._networks.popitem(last=False)
        delay = max(pace.delay(now), self._total.delay(now))
        pace.count(now, events)
        self._total.count(now, events)
        return delay
