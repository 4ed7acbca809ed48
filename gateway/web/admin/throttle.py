"""Slowing down who tries tokens: a bucket of wrong answers that fills again by itself.

`Guesses` holds up wrong tokens alone, never the right one: somebody who guesses must not be able to
lock out who does not. That is safe because a token has at least 16 characters, and what
`gateway admin token` makes has 256 random bits. What the bucket does is to keep guessing noticed
and its log lines few.

`AddressGuesses` holds up all that an address sends once it has sent too many wrong ones. People
sign in there by hand, so the wait is short, and who is locked out is who shares the address.
"""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address

WRONG_AT_ONCE = 10
SECONDS_EACH = 6.0
"""After that many wrong ones, one more is answered as such every so many seconds."""

WRONG_AT_ONCE_HERE = 5
SECONDS_EACH_HERE = 12.0
"""The same for what comes from one address: five a minute."""

MOST_ADDRESSES = 10_000
"""How many addresses are remembered. Beyond that, the one that was last wrong longest ago goes."""


class Guesses:
    """How many wrong tokens may still be answered. `clock` counts seconds, never backwards."""

    def __init__(
        self,
        clock: Callable[[], float],
        at_once: int = WRONG_AT_ONCE,
        seconds_each: float = SECONDS_EACH,
    ) -> None:
        self._clock = clock
        self._most = self._left = float(at_once)
        self._seconds_each = seconds_each
        self._at = clock()

    def wait(self) -> float | None:
        """Seconds until one more is answered; None where one would be now."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) / self._seconds_each)
        self._at = now
        return (1 - self._left) * self._seconds_each if self._left < 1 else None

    def wrong(self) -> float | None:
        """Count a wrong token. Seconds to wait where there were too many, else None."""
        wait = self.wait()
        if wait is None:
            self._left -= 1
        return wait


class AddressGuesses:
    """The same for each client's address. `clock` as above."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guesses = OrderedDict[str, Guesses]()

    def wait(self, address: str) -> float | None:
        """Seconds until the address may try again; None where it may now."""
        guesses = self._guesses.get(_network(address))
        return None if guesses is None else guesses.wait()

    def wrong(self, address: str) -> None:
        """Count a wrong token that came from there."""
        network = _network(address)
        if network not in self._guesses:
            if len(self._guesses) >= MOST_ADDRESSES:
                self._guesses.popitem(last=False)
            self._guesses[network] = Guesses(self._clock, WRONG_AT_ONCE_HERE, SECONDS_EACH_HERE)
        self._guesses.move_to_end(network)
        self._guesses[network].wrong()


def _network(address: str) -> str:
    """What one client has for sure: an IPv4 address, or the /64 around an IPv6 one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, 64), strict=False))
