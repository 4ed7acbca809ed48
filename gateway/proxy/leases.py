"""The port through which the gateways of one store elect a buyer."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from msgspec import Struct, field

from gateway.core.model import Bought


class Lease(Struct, frozen=True):
    """The right to buy the answer of this name, for as long as the holder renews it."""

    name: str
    holder: str


class Rival(Struct, frozen=True):
    """The holder of a lease, and in how many seconds that expires unless it is renewed."""

    holder: str
    seconds: float


class LeaseEvent(Struct, frozen=True):
    """The end of a lease, with its holder's message: see `gateway.proxy.election_messages`."""

    lease: Lease
    # Gateways of an older version, in the middle of an upgrade, know it by this name.
    message: bytes = field(name="told")


class Leases(Protocol):
    """Leases in the store. Methods may raise StoreUnavailable within about a second; the store may
    have done the operation even then.
    """

    async def take(self, lease: Lease, seconds: float) -> Rival | None:
        """Take a lease for so many seconds; return its holder if there is one already."""

    async def renew(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        """Extend these to so many seconds from now; return those that others hold by now.

        One that had expired is taken again.
        """

    async def end(self, endings: Sequence[tuple[Lease, bytes]]) -> None:
        """End each lease unless another gateway holds it, and send its message to all gateways."""

    async def hand_over(self, lease: Lease, bought: Bought) -> bool:
        """Leave an answer to those who wait for this lease's end. Returns False if nobody waits,
        or if it is too large.
        """

    async def handed_over(self, lease: Lease) -> Bought | None:
        """Return the answer that was left, for some seconds after it was."""

    def listen(self) -> AsyncGenerator[LeaseEvent | None, None]:
        """Yield each lease's end from now on, and None once no event can be missed any more.

        Raises StoreUnavailable when the subscription is lost.
        """

    async def close(self) -> None:
        """Close the connections. Later calls raise StoreUnavailable."""
