"""The ports of alerts: claims in the store, and webhooks."""

from typing import Protocol

from msgspec import Struct

from gateway.config.webhooks import Webhook
from gateway.core.model import Claim


class ClaimStore(Protocol):
    """Claims for what only one gateway may do, such as delivering an alert.

    Every method may raise StoreUnavailable; the change may have happened then. Archives hold
    only claims that are done.
    """

    async def claim(self, name: str, owner: str, seconds: float, note: bytes = b"") -> float | None:
        """Claim `name` for so many seconds from now, or extend the owner's claim.

        Returns None, or, where it is done or another owner's: in how many seconds it can be
        claimed. Then nothing changes.
        """

    async def complete(self, name: str, owner: str, seconds: float, note: bytes = b"") -> None:
        """Mark `name` as done, whoever claims it: nobody can claim it for so many seconds."""

    async def current(self) -> list[Claim]:
        """Return the claims that have not ended, those that end last first."""


class Receipt(Struct, frozen=True, kw_only=True):
    """The result of one attempt to send a message.

    `detail` describes it for people, without secrets. A `passing` failure may succeed later.
    """

    status: int | None = None
    detail: str
    passing: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the receiver accepted the message."""
        return self.status is not None and 200 <= self.status < 300


class Webhooks(Protocol):
    """Sends messages to webhooks."""

    async def send(self, webhook: Webhook, id: str, body: bytes, now: float) -> Receipt:
        """Send one message once, within seconds. It raises nothing."""
