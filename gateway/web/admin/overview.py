"""The overview in the admin API: what a dashboard shows first."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct, field

from gateway.reporting.overview import Overview, days_between, read_overview
from gateway.reporting.time_span import parse_time
from gateway.stores.port import Store
from gateway.web.admin.request import AdminRequest, AdminRoute
from gateway.web.admin.responses import answer
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
    """The first and the last day, in UTC; by default the last 30 days. `team` leaves out others."""

    first: Day | None = field(name="from", default=None)
    last: Day | None = field(name="to", default=None)
    team: str | None = None


class AdminOverview:
    """The route of the overview. `flush` has what is not written yet written."""

    def __init__(self, store: Store, flush: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._flush = flush

    def routes(self) -> list[AdminRoute]:
        """All of them."""
        return [
            AdminRoute(
                "GET",
                "/admin/v1/overview",
                "Spend and savings, by team, key and day",
                self._overview,
                Overview,
                query=OverviewQuery,
            )
        ]

    async def _overview(self, call: AdminRequest) -> web.Response:
        query: OverviewQuery = call.query
        first, last = (
            None if day is None else parse_time(day) for day in (query.first, query.last)
        )
        with refusing():
            days = days_between(first, last, call.by.now)
        await self._flush()
        store, now = self._store, call.by.now
        return answer(await read_overview(store.usage, store.history, days, query.team, now))
