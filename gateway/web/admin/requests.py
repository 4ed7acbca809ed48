"""Recent requests, and errors by kind, in the admin API."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.core.errors import NoSuchThing, StoreUnavailable
from gateway.reporting.history_query import (
    ActivityPage,
    ActivityQuery,
    ErrorPage,
    ErrorQuery,
    read_activity,
    read_errors,
)
from gateway.stores.port import Store
from gateway.tenants.operations import check_team
from gateway.web.admin.request import AdminRequest, AdminRoute
from gateway.web.query import refusing


class AdminActivity:
    """The routes of the request history. `flush` writes buffered lines to the store."""

    def __init__(self, store: Store, flush: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._flush = flush

    def routes(self) -> list[AdminRoute]:
        """The routes to list requests and errors."""
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
        ]

    async def _activity(self, call: AdminRequest) -> ActivityPage:
        await self._prepare(call)
        with refusing():
            return await read_activity(self._store.history, call.query)

    async def _errors(self, call: AdminRequest) -> ErrorPage:
        await self._prepare(call)
        with refusing():
            return await read_errors(self._store.history, call.query, call.by.now)

    async def _prepare(self, call: AdminRequest) -> None:
        await check_team(self._store.directory, call.query.team)
        with suppress(StoreUnavailable):  # a store that cannot be written may still be readable
            await self._flush()
