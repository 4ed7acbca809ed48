"""A budget for the bytes of request bodies in memory: of each sender, and in all.

A body counts from its first byte until it is read, and a large one until its request is answered. A
declared length counts at once, so that a body that was let in is never refused half-way. A chunked
body counts as it arrives, and a compressed one as it is inflated. A small body that arrived
together with its head does not count.

A slow sender uses up its own budget, and holds it for no longer than a body may take.
"""

from collections import Counter
from collections.abc import Callable

from msgspec import Struct

from gateway.core.errors import Overloaded, RateLimited
from gateway.core.headers import retry_after
from gateway.core.key_format import public_id
from gateway.core.model import RefusedBy
from gateway.core.turns import Turns

LARGE_BYTES = 32_768
"""A larger body counts until its request is answered. `max_in_flight` bounds the smaller ones."""

RETRY_SECONDS = 2.0
"""When a refused client should try again: most bodies arrive sooner than that."""


INFLATED_AT_ONCE = 8
"""The most steps of inflating bodies in one turn of the event loop: each takes up to a millisecond,
and bodies that are small need no further one."""


class BodyLimits(Struct, frozen=True):
    """The most bytes of one sender's bodies, and of all bodies."""

    of_sender: int
    in_all: int


class BodyBudget:
    """The bytes of all bodies and of each sender's.

    `limits` returns the limits in force, `spread` randomness in [0, 1) for the Retry-After.
    """

    def __init__(self, limits: Callable[[], BodyLimits], spread: Callable[[], float]) -> None:
        self._limits = limits
        self._spread = spread
        self.turns = Turns(INFLATED_AT_ONCE)
        self.total = 0
        self.of_sender = Counter[str]()

    def take(self, sender: str, size: int) -> None:
        """Count more bytes of a sender. Raises RateLimited or Overloaded, and then counts none."""
        limits = self._limits()
        if self.of_sender[sender] + size > limits.of_sender:
            raise RateLimited(
                "The bodies of your requests in progress may have at most"
                f" {limits.of_sender} bytes together. Try again shortly.",
                retry_after=retry_after(RETRY_SECONDS, self._spread()),
                # For the public port's records: the admin port keeps none.
                refused_by=RefusedBy(
                    scope="key",
                    owner=public_id(sender),
                    limit="max_pending_body_bytes_per_key",
                    size=limits.of_sender,
                    used=self.of_sender[sender],
                    held=0,
                    asked=size,
                    resets_at=None,
                    wait_seconds=RETRY_SECONDS,
                ),
            )
        if self.total + size > limits.in_all:
            raise Overloaded(
                "The gateway already holds its maximum of request bodies. Try again shortly."
            )
        self.total += size
        self.of_sender[sender] += size

    def give_back(self, sender: str, size: int) -> None:
        """Count bytes of a sender no longer."""
        self.total -= size
        self.of_sender[sender] -= size
        if not self.of_sender[sender]:
            del self.of_sender[sender]


class BodyShare:
    """The bytes of one request's body in a budget. Its user must `release` them."""

    __slots__ = ("_budget", "_taken", "sender")

    def __init__(self, budget: BodyBudget, sender: str = "") -> None:
        self._budget = budget
        self._taken = 0
        self.sender = sender

    def take(self, size: int) -> None:
        """Count more bytes. Raises RateLimited or Overloaded."""
        if size:
            self._budget.take(self.sender, size)
            self._taken += size

    def reach(self, size: int) -> None:
        """Count at least `size` bytes in total. Raises RateLimited or Overloaded."""
        self.take(max(0, size - self._taken))

    async def turn(self) -> None:
        """Wait for a turn of the event loop that has room for more work."""
        await self._budget.turns.take()

    def release(self) -> None:
        """Count nothing of this request any longer."""
        if self._taken:
            self._budget.give_back(self.sender, self._taken)
            self._taken = 0
