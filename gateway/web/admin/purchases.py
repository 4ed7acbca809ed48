"""Open and unknown purchases in the admin API, their refunds, and who bought a picture."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import isfinite
from typing import Annotated

from msgspec import Meta, Struct

from gateway.core.admin_errors import Conflicting, NoSuchThing
from gateway.core.bounds import MOST_CHARS, MOST_LISTED, Text
from gateway.core.errors import NotFound
from gateway.quota import purchases
from gateway.quota.purchase import (
    MOST_WHY,
    Place,
    Purchase,
    PurchaseFilter,
    PurchaseState,
    read_why,
)
from gateway.quota.purchases import PurchaseStores
from gateway.reporting.queries import Time, parse_time
from gateway.reporting.store import PictureBuyer
from gateway.stores.port import Store
from gateway.web.admin.http import AdminRequest, AdminRoute, read_fields, read_json

ALL = "/purchases"
ONE = "/purchases/{id}"
PICTURE = "/pictures/{sha256}"


def _place(text: str) -> Place:
    """Read a purchase's place in the list. Raises ValueError."""
    at, _, id = text.partition("_")
    if not isfinite(float(at)):
        raise ValueError("not a time")
    return float(at), id


def _text(place: Place) -> str:
    return f"{place[0]!r}_{place[1]}"


PlaceText = Annotated[
    str,
    Meta(
        max_length=MOST_CHARS,
        description="`next` of the page before",
        extra={"check": _place},
    ),
]
Why = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MOST_WHY,
        description=f"1 to {MOST_WHY} printable characters",
        extra={"read": read_why},
    ),
]


class PurchaseQuery(Struct, frozen=True, kw_only=True):
    """Selects purchases. `id` is the id of a purchase or of its request.

    `before` is the `next` of the previous page.
    """

    state: PurchaseState | None = None
    team: Text | None = None
    since: Time | None = None
    id: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 100
    before: PlaceText | None = None


class PurchasePage(Struct, frozen=True, kw_only=True):
    """Purchases, the latest first. Pass `next` as `before` to get the next page."""

    purchases: list[Purchase]
    next: str | None


class PictureBuyerList(Struct, frozen=True, kw_only=True):
    """The purchases that bought a picture, the latest first."""

    purchases: list[PictureBuyer]


class RefundReason(Struct, frozen=True, kw_only=True):
    """Why a purchase is refunded. The record of the purchase and the audit log show it."""

    why: Why


@dataclass(frozen=True)
class AdminPurchases:
    """The routes of purchases. `flush` writes the buyers of pictures that are not written yet."""

    store: Store
    flush: Callable[[], Awaitable[None]]

    @property
    def _stores(self) -> PurchaseStores:
        return PurchaseStores(self.store.accounts, self.store.directory, self.store.purchases)

    @AdminRoute(
        "GET",
        ALL,
        "List open, unknown and refunded purchases",
        query=PurchaseQuery,
        errors=(NoSuchThing,),
        example={"state": "unknown"},
    )
    async def _list(self, call: AdminRequest) -> PurchasePage:
        query: PurchaseQuery = call.query
        since = None if query.since is None else parse_time(query.since)
        wanted = PurchaseFilter(team=query.team, since=since, id=query.id)
        before = None if query.before is None else _place(query.before)
        # One more than the page holds shows whether there is a next page.
        found = await purchases.list_purchases(
            self._stores, wanted, query.state, query.limit + 1, before
        )
        page = found[: query.limit]
        more = len(found) > query.limit
        return PurchasePage(purchases=page, next=_text(page[-1].place) if more else None)

    @AdminRoute(
        "GET",
        ONE,
        "Show an open, unknown or refunded purchase, by its id or its request's",
        errors=(NoSuchThing, Conflicting),
    )
    async def _get(self, call: AdminRequest) -> Purchase:
        return await purchases.find_purchase(self._stores, call.params["id"])

    @AdminRoute(
        "GET",
        PICTURE,
        "Purchases that bought a picture, by the SHA-256 of its bytes",
        errors=(NotFound,),  # of a path with other characters
    )
    async def _whose(self, call: AdminRequest) -> PictureBuyerList:
        await self.flush()
        found = await self.store.pictures.find(call.params["sha256"].lower(), MOST_LISTED)
        return PictureBuyerList(purchases=found)

    @AdminRoute(
        "POST",
        f"{ONE}/refund",
        "Take back the charge of an unknown purchase",
        body=RefundReason,
        errors=(NoSuchThing, Conflicting),
        example={"why": "not on the invoice"},
    )
    async def _refund(self, call: AdminRequest) -> Purchase:
        why = read_fields(await read_json(call), RefundReason).why
        return await purchases.refund_purchase(self._stores, call.params["id"], why, call.by)
