"""The overview in the admin API: what a dashboard shows first."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct, field

from gateway.core.faults import InvalidField
from gateway.reporting.overview import Overview, days_between, read_overview
from gateway.reporting.time_span import parse_time
from gateway.stores.port import Store
from gateway.web.admin.routes import Asked, Route, answer, refuse


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

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route(
                method="GET",
                path="/admin/v1/overview",
                summary="What was spent and saved, by whom and when",
                handler=self._overview,
                query=OverviewQuery,
                answer=Overview,
            )
        ]

    async def _overview(self, asked: Asked) -> web.Response:
        query: OverviewQuery = asked.query
        first, last = (
            None if day is None else parse_time(day) for day in (query.first, query.last)
        )
        try:
            days = days_between(first, last, asked.by.now)
        except InvalidField as error:
            refuse([error.fault])
            raise
        await self._flush()
        return answer(
            await read_overview(
                self._store.usage, self._store.history, days, query.team, asked.by.now
            )
        )
