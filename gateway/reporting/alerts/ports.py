"""The ports of alerts: claims in the store, and webhooks."""

from typing import Protocol

from msgspec import Struct

from gateway.config.webhooks import Webhook
from gateway.core.model import Claim


class ClaimStore(Protocol):
    """What gateways of one store do once only, such as to tell somebody something.

    Every method may raise StoreUnavailable; what it was to do may have been done then. Archives
    have what is done, not what is only claimed.
    """

    async def claim(self, name: str, owner: str, seconds: float, note: bytes = b"") -> float | None:
        """Claim what has this name for so many seconds from now, or claim it further.

        Where it is another's, or done: in how many seconds it can be claimed, and nothing is
        changed.
        """

    async def complete_claim(
        self, name: str, owner: str, seconds: float, note: bytes = b""
    ) -> None:
        """It is done, whoever has claimed it by now: nobody can claim it for so many seconds."""

    async def claims(self) -> list[Claim]:
        """All that have not ended, those that end last first."""


class Receipt(Struct, frozen=True, kw_only=True):
    """What became of one attempt to tell somebody something.

    `told` says it in words, without anything secret. One that is `passing` may go well later.
    """

    status: int | None = None
    told: str
    passing: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


class Webhooks(Protocol):
    """Whom the gateway tells what people should know."""

    async def send(self, webhook: Webhook, id: str, body: bytes, now: float) -> Receipt:
        """Send one message once, within some seconds. Raises nothing."""
