"""Slowing down guesses of admin tokens: a token bucket of failures that refills over time.

`Throttle` delays wrong tokens only, never the right one: an attacker must not be able to lock out
an admin. That is safe because a token has at least 16 characters, and one from `gateway admin
token` has 256 random bits. The bucket keeps guessing visible and its log lines few.

`AddressThrottle` delays everything from an address that has sent too many wrong tokens. People sign
in by hand, so the wait is short, and it only locks out those who share the address.
"""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address

BURST = 10
SECONDS_EACH = 6.0
"""After this many wrong tokens, the gateway answers one more every so many seconds."""

ADDRESS_BURST = 5
ADDRESS_SECONDS_EACH = 12.0
"""The same for one address: five a minute."""

MOST_ADDRESSES = 10_000
"""How many addresses are remembered. Beyond that, the gateway forgets the oldest failure."""


class Throttle:
    """How many wrong tokens may still be answered. `clock` counts seconds, never backwards."""

    def __init__(
        self, clock: Callable[[], float], burst: int = BURST, seconds_each: float = SECONDS_EACH
    ) -> None:
        self._clock = clock
        self._burst = self._left = float(burst)
        self._seconds_each = seconds_each
        self._at = clock()

    def wait(self) -> float | None:
        """Return the seconds to wait until one more is answered, or None for no wait."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) / self._seconds_each)
        self._at = now
        return (1 - self._left) * self._seconds_each if self._left < 1 else None

    def fail(self) -> float | None:
        """Count a wrong token. Return the seconds to wait after too many, else None."""
        wait = self.wait()
        if wait is None:
            self._left -= 1
        return wait


class AddressThrottle:
    """One throttle for each client address."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._throttles = OrderedDict[str, Throttle]()

    def wait(self, address: str) -> float | None:
        """Return the seconds until the address may try again, or None for no wait."""
        throttle = self._throttles.get(_network(address))
        return None if throttle is None else throttle.wait()

    def fail(self, address: str) -> None:
        """Count a wrong token from an address."""
        network = _network(address)
        if network not in self._throttles:
            if len(self._throttles) >= MOST_ADDRESSES:
                self._throttles.popitem(last=False)
            self._throttles[network] = Throttle(self._clock, ADDRESS_BURST, ADDRESS_SECONDS_EACH)
        self._throttles.move_to_end(network)
        self._throttles[network].fail()


def _network(address: str) -> str:
    """The addresses that surely belong to one client: an IPv4 address, or an IPv6 /64."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, 64), strict=False))
