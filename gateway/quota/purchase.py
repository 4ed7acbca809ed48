"""Purchases without a confirmed outcome, one by one, so that people can look into them.

An open purchase is a hold in its team's account. A purchase that was charged as unknown also has a
record of its own, which the store keeps for as long as usage. An outcome that still arrives removes
the record. A refund marks it.
"""

from typing import Annotated, Literal

from msgspec import Struct

from gateway.core.key_format import KeyId
from gateway.core.listing import HIDDEN
from gateway.core.model import Entry
from gateway.core.money import MicroDollars
from gateway.core.periods import Timestamp
from gateway.quota.account import Hold

MOST_WHY = 300
"""The longest reason of a refund, in characters."""

RecordState = Literal["unknown", "refunded"]
PurchaseState = Literal["open", "unknown", "refunded"]

Place = tuple[float, str]
"""The time and the id of a purchase: lists are ordered by them."""


class Refunded(Struct, frozen=True, kw_only=True):
    """Who refunded a purchase, when, and why."""

    at: Timestamp
    who: str
    why: str


class Purchase(Struct, frozen=True, kw_only=True):
    """A purchase that is open, was charged as unknown, or was refunded after that.

    `at` is the time of the reservation. `request_id` is null if it is not known. An open purchase
    holds `images` and `cost`; otherwise they were charged, and after a refund taken back.
    """

    id: str
    request_id: str | None
    state: PurchaseState = "unknown"
    at: Timestamp
    team: str
    key: KeyId
    model: str
    size: str
    quality: str
    images: int
    cost: MicroDollars
    in_gateway: Annotated[bool, HIDDEN]
    in_key: Annotated[bool, HIDDEN]
    refunded: Refunded | None = None

    @property
    def place(self) -> Place:
        """Its place in lists."""
        return self.at, self.id

    @property
    def hold(self) -> Hold:
        """The hold that was charged. Its lease is over."""
        return Hold(
            at=self.at,
            lease=self.at,
            key=self.key,
            model=self.model,
            size=self.size,
            quality=self.quality,
            images=self.images,
            cost=self.cost,
            in_gateway=self.in_gateway,
            in_key=self.in_key,
        )


class KeptEntry(Entry, frozen=True, kw_only=True):
    """A usage entry whose purchase is kept as a record, too: charged as unknown, or refunded."""

    purchase: Purchase


def purchase_of(id: str, team: str, hold: Hold, state: PurchaseState) -> Purchase:
    """Return the purchase of a hold."""
    return Purchase(
        id=id,
        request_id=id if hold.request == "" else hold.request,
        state=state,
        at=hold.at,
        team=team,
        key=hold.key,
        model=hold.model,
        size=hold.size,
        quality=hold.quality,
        images=hold.images,
        cost=hold.cost,
        in_gateway=hold.in_gateway,
        in_key=hold.in_key,
    )


def charged_entry(purchase: Purchase) -> Entry:
    """Return the usage entry of a purchase as it was charged."""
    return Entry(
        id=purchase.id,
        at=purchase.at,
        team=purchase.team,
        key=purchase.key,
        model=purchase.model,
        size=purchase.size,
        quality=purchase.quality,
        outcome="unknown",
        images_bought=purchase.images,
        images_unknown=purchase.images,
        cost=purchase.cost,
    )


def read_why(text: str) -> str:
    """Return the reason of a refund without blanks around it. Raises ValueError."""
    text = text.strip()
    if not text or len(text) > MOST_WHY or not text.isprintable():
        raise ValueError(f"must be 1 to {MOST_WHY} printable characters")
    return text


class PurchaseFilter(Struct, frozen=True, kw_only=True):
    """Selects purchases. None selects all. `id` is the id of a purchase or of its request."""

    team: str | None = None
    since: float | None = None
    id: str | None = None

    def matches(self, purchase: Purchase) -> bool:
        """Whether it selects this purchase."""
        return (
            self.team in (None, purchase.team)
            and (self.since is None or self.since <= purchase.at)
            and self.id in (None, purchase.id, purchase.request_id)
        )
