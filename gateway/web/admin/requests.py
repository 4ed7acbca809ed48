"""Recent requests, errors by kind and the most repeated requests in the admin API.

A prompt is shown only where an operator has switched that on.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from gateway.cache.memory import EntryHits, MemoryCache
from gateway.config.settings import Settings
from gateway.core.errors import NoSuchThing, StoreUnavailable
from gateway.core.model import About, Bought
from gateway.proxy.fingerprint import scope_of
from gateway.reporting.history_query import (
    ActivityPage,
    ActivityQuery,
    ErrorPage,
    ErrorQuery,
    read_activity,
    read_errors,
)
from gateway.stores.port import Store
from gateway.tenants.directory import Directory
from gateway.tenants.operations import check_team
from gateway.web.admin.request import AdminRequest, AdminRoute
from gateway.web.admin.responses import answer
from gateway.web.query import refusing


class TopQuery(Struct, frozen=True, kw_only=True):
    """How many of them."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50


class TopLine(Struct, frozen=True, kw_only=True):
    """A request whose answer is kept, and how often it was given since it is. `team` asked first.

    `prompt` is null unless [admin] show_prompts is on, and the first 200 characters if so.
    """

    fingerprint: str
    team: str
    model: str
    size: str
    quality: str
    hits: int
    bytes: int
    age_seconds: float
    expires_seconds: float | None
    prompt: str | None


class TopPage(Struct, frozen=True, kw_only=True):
    """The most repeated requests that this gateway's memory holds, the most repeated first."""

    entries: list[TopLine]


class AdminActivity:
    """The routes over what requests came to. `flush` has what is not written yet written."""

    def __init__(
        self,
        store: Store,
        flush: Callable[[], Awaitable[None]],
        memory: MemoryCache,
        directory: Directory,
        settings: Callable[[], Settings],
    ) -> None:
        self._store = store
        self._flush = flush
        self._memory = memory
        self._directory = directory
        self._settings = settings

    def routes(self) -> list[AdminRoute]:
        """All of them."""
        known = (NoSuchThing,)
        return [
            AdminRoute(
                "GET",
                "/admin/v1/activity",
                "Recent requests",
                self._activity,
                ActivityPage,
                query=ActivityQuery,
                errors=known,
            ),
            AdminRoute(
                "GET",
                "/admin/v1/errors",
                "Errors by kind, the most frequent first",
                self._errors,
                ErrorPage,
                query=ErrorQuery,
                errors=known,
            ),
            AdminRoute(
                "GET",
                "/admin/v1/cache/top",
                "The most repeated requests in this gateway's memory",
                self._top,
                TopPage,
                query=TopQuery,
            ),
        ]

    async def _activity(self, call: AdminRequest) -> web.Response:
        await check_team(self._store.directory, call.query.team)
        await self._write_what_waits()
        with refusing():
            page = await read_activity(self._store.history, call.query)
        return answer(page)

    async def _write_what_waits(self) -> None:
        # A store that is full can still be read.
        with suppress(StoreUnavailable):
            await self._flush()

    async def _errors(self, call: AdminRequest) -> web.Response:
        await check_team(self._store.directory, call.query.team)
        await self._write_what_waits()
        with refusing():
            page = await read_errors(self._store.history, call.query, call.by.now)
        return answer(page)

    async def _top(self, call: AdminRequest) -> web.Response:
        found = (entry for entry in self._memory.most_hits() if self._is_in_use(entry.value.about))
        entries = [
            self._line(entry, entry.value.about, call.by.now)
            for entry in islice(found, call.query.limit)
        ]
        return answer(TopPage(entries=entries))

    def _is_in_use(self, about: About | None) -> bool:
        """Whether an answer can still be given: not once its team's cache was emptied."""
        if about is None:
            return False
        team = self._directory.teams.get(about.team)
        return team is not None and scope_of(team, self._settings()) == about.scope

    def _line(self, entry: EntryHits, about: About, now: float) -> TopLine:
        bought: Bought = entry.value
        return TopLine(
            fingerprint=entry.key,
            team=about.team,
            model=about.model,
            size=about.size,
            quality=about.quality,
            hits=entry.hits,
            bytes=entry.bytes,
            age_seconds=round(max(0.0, now - bought.at), 3),
            expires_seconds=None if entry.left is None else round(entry.left, 3),
            prompt=about.prompt if self._settings().admin.show_prompts else None,
        )
