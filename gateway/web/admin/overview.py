"""The overview in the admin API: the numbers on the dashboard's first page."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from msgspec import Meta, Struct, field

from gateway.reporting.overview import Overview, days_between, read_overview
from gateway.reporting.time_span import parse_time
from gateway.stores.port import Store
from gateway.web.admin.request import AdminRequest, AdminRoute
from gateway.web.query import refusing


def _day(text: str) -> str:
    parse_time(text)
    if len(text) != len("2026-11-01"):
        raise ValueError("not a day")
    return text


Day = Annotated[
    str,
    Meta(description="a day such as 2026-11-01, in the years 1970 to 9998", extra={"read": _day}),
]


class OverviewQuery(Struct, frozen=True, kw_only=True):
    """The first and the last day in UTC, by default the last 30 days, and one team or all."""

    first: Day | None = field(name="from", default=None)
    last: Day | None = field(name="to", default=None)
    team: str | None = None


def overview_routes(store: Store, flush: Callable[[], Awaitable[None]]) -> list[AdminRoute]:
    """The route to read the overview. `flush` writes buffered usage and history to the store."""

    async def overview(call: AdminRequest) -> Overview:
        query: OverviewQuery = call.query
        first, last = (
            None if day is None else parse_time(day) for day in (query.first, query.last)
        )
        with refusing():
            days = days_between(first, last, call.by.now)
        await flush()
        return await read_overview(store.usage, store.history, days, query.team, call.by.now)

    path, summary = "/admin/v1/overview", "Spend and savings, by team, key and day"
    return [AdminRoute("GET", path, summary, overview, Overview, query=OverviewQuery)]
