"""The port through which gateways of one store elect a buyer."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.model import Bought


class Lease(Struct, frozen=True):
    """The right to buy what has this name, for as long as this holder keeps it up."""

    name: str
    holder: str


class Rival(Struct, frozen=True):
    """Who has a lease, and in how many seconds that ends unless it is renewed."""

    holder: str
    seconds: float


class Told(Struct, frozen=True):
    """What the holder of a lease told at its end: see `gateway.proxy.election_messages`."""

    lease: Lease
    told: bytes


class Leases(Protocol):
    """What gateways of one store elect a buyer with. Methods may raise StoreUnavailable, within
    about a second; what they were to do may have been done then.
    """

    async def take(self, lease: Lease, seconds: float) -> Rival | None:
        """Take a lease for so many seconds; who has it, where somebody does."""

    async def renew(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        """Make these live for so many seconds from now; those that are another's by now.

        One that had ended is taken again.
        """

    async def end(self, endings: Sequence[tuple[Lease, bytes]]) -> None:
        """End each lease, unless it is another's by now, and tell the news to all gateways."""

    async def hand_over(self, lease: Lease, bought: Bought) -> bool:
        """Leave an answer to those who wait for this lease's end; False where nobody does, or it
        is too large.
        """

    async def handed_over(self, lease: Lease) -> Bought | None:
        """The answer that was left, for some seconds after."""

    def listen(self) -> AsyncGenerator[Told | None, None]:
        """All that is told from now on; None once it is certain that nothing is missed any more.

        Raises StoreUnavailable when the subscription is lost.
        """

    async def close(self) -> None:
        """Let go. Later calls raise StoreUnavailable."""
