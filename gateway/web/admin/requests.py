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


def history_routes(store: Store, flush: Callable[[], Awaitable[None]]) -> list[AdminRoute]:
    """The routes to list requests and errors. `flush` writes buffered lines to the store."""

    async def prepare(call: AdminRequest) -> None:
        await check_team(store.directory, call.query.team)
        with suppress(StoreUnavailable):  # a store that cannot be written may still be readable
            await flush()

    async def activity(call: AdminRequest) -> ActivityPage:
        await prepare(call)
        with refusing():
            return await read_activity(store.history, call.query)

    async def errors(call: AdminRequest) -> ErrorPage:
        await prepare(call)
        with refusing():
            return await read_errors(store.history, call.query, call.by.now)

    return [
        AdminRoute(
            "GET",
            "/admin/v1/activity",
            "Recent requests",
            activity,
            ActivityPage,
            query=ActivityQuery,
            errors=(NoSuchThing,),
        ),
        AdminRoute(
            "GET",
            "/admin/v1/errors",
            "Errors by kind, the most frequent first",
            errors,
            ErrorPage,
            query=ErrorQuery,
            errors=(NoSuchThing,),
        ),
    ]
