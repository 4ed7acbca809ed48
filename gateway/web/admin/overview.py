"""The overview in the admin API: what a dashboard shows first."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct, field

from gateway.core.faults import InvalidField
from gateway.reporting.overview import days_asked, overview
from gateway.reporting.usage_query import moment
from gateway.stores.port import Store
from gateway.web.admin.routes import Asked, Route, answer, refuse


def _day(text: str) -> str:
    moment(text)
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


class Tile(Struct, frozen=True, kw_only=True):
    """Everything together. `hit_ratio` is that of images, from 0 to 1; null without images."""

    cost_usd: str
    saved_usd: str
    images_bought: int
    images_cached: int
    images_coalesced: int
    images_unknown: int
    requests: int
    requests_refused: int
    hit_ratio: float | None


class Series(Struct, frozen=True, kw_only=True):
    """A team's spend along the axis; null stands for all teams that have no series of their own."""

    team: str | None
    cost_usd: list[str]


class TeamLine(Struct, frozen=True, kw_only=True):
    """What a team spent and saved."""

    team: str
    cost_usd: str
    saved_usd: str
    images_bought: int
    images_cached: int
    requests: int
    requests_refused: int


class KeyLine(TeamLine, frozen=True, kw_only=True):
    """What a key's line spent and saved."""

    key: str


class Latency(Struct, frozen=True, kw_only=True):
    """How long requests took on average, in milliseconds: the gateway's own part, and what the
    upstream took for a purchase; null without any. `day` is an hour where the axis has hours.
    """

    day: str
    requests: int
    own_ms: float | None
    upstream_ms: float | None


class OverviewPage(Struct, frozen=True, kw_only=True):
    """Spans include their last day. `days` is the axis of the series: hours, where the span has
    no more than two days. The dearest ten teams and keys are told one by one, the dearest first.
    """

    first: str = field(name="from")
    last: str = field(name="to")
    before_from: str
    before_to: str
    now: Tile
    before: Tile
    days: list[str]
    series: list[Series]
    teams: list[TeamLine]
    keys: list[KeyLine]
    latency: list[Latency]


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
                answer=OverviewPage,
            )
        ]

    async def _overview(self, asked: Asked) -> web.Response:
        query: OverviewQuery = asked.query
        first, last = (None if day is None else moment(day) for day in (query.first, query.last))
        try:
            days = days_asked(first, last, asked.by.now)
        except InvalidField as error:
            refuse([error.fault])
            raise
        await self._flush()
        return answer(
            await overview(self._store.usage, self._store.history, days, query.team, asked.by.now)
        )
