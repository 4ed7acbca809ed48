"""The cache in the admin API: how it does, whether an answer is kept, and emptying it.

No picture and no prompt leaves the gateway here.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from aiocache.base import BaseCache
from aiohttp import web
from msgspec import Meta, Struct
from prometheus_client import CollectorRegistry

from gateway.config.settings import Settings
from gateway.core.errors import Conflicting, NoSuchThing
from gateway.core.faults import BODY, Fault
from gateway.core.strict_json import write_json
from gateway.proxy.fingerprint import answer_name, scope_of
from gateway.proxy.image_request import read_request
from gateway.tenants import operations
from gateway.tenants.changes import Conflict
from gateway.tenants.store import DirectoryStore
from gateway.web.admin.request import AdminRequest, AdminRoute, read_fields, read_json
from gateway.web.admin.responses import answer
from gateway.web.query import refuse

ALL = "/admin/v1/cache"
TIERS = ("memory", "redis")
REASONS = ("expired", "replaced", "size")

Fingerprint = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", description="64 hexadecimal digits")]


class TierPage(Struct, frozen=True, kw_only=True):
    """One tier as this gateway sees it since its start. None: it does not tell."""

    hits: int
    misses: int
    entries: int | None
    bytes: int | None
    evictions: dict[str, int] | None


class CachePage(Struct, frozen=True, kw_only=True):
    """The cache of this gateway, and the Redis behind it if there is one."""

    enabled: bool
    scope: str
    max_bytes: int
    memory: TierPage
    redis: TierPage | None


class Purge(Struct, frozen=True, kw_only=True):
    """What is to be forgotten: one answer, one team's, or all."""

    team: str | None = None
    all: bool = False
    fingerprint: Fingerprint | None = None


class Purged(Struct, frozen=True, kw_only=True):
    """What was forgotten: one answer, a team's, or with neither everybody's. `purged` is false
    where the answer was not kept.
    """

    purged: bool
    team: str | None
    fingerprint: str | None


class LookUp(Struct, frozen=True, kw_only=True):
    """Whose request is looked up. The request stands beside it, as a client would send it."""

    team: str


class LookUpBody(LookUp, frozen=True, kw_only=True):
    """A request, as a client would send it, and whose it is."""

    request: dict[str, Any]


class FoundPage(Struct, frozen=True, kw_only=True):
    """Whether the answer is kept; its age in seconds and its size in bytes if so."""

    kept: bool
    fingerprint: str
    age_seconds: float | None = None
    bytes: int | None = None
    images: int | None = None
    tier: str | None = None


class AdminCache:
    """The routes over the cache. `settings` gives those in force, `refresh` has the directory
    take over what was just written.
    """

    def __init__(
        self,
        store: DirectoryStore,
        cache: BaseCache,
        registry: CollectorRegistry,
        settings: Callable[[], Settings],
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._cache = cache
        self._registry = registry
        self._settings = settings
        self._refresh = refresh

    def routes(self) -> list[AdminRoute]:
        """All of them."""
        return [
            AdminRoute("GET", ALL, "The state of the cache", self._statistics, CachePage),
            AdminRoute(
                "POST",
                f"{ALL}/purge",
                "Purge one answer, one team's answers, or all answers",
                self._purge,
                Purged,
                body=Purge,
                errors=(NoSuchThing, Conflicting),
                example={"team": "design"},
            ),
            AdminRoute(
                "POST",
                f"{ALL}/lookup",
                "Whether the answer to a request is cached",
                self._look_up,
                FoundPage,
                body=LookUpBody,
                errors=(NoSuchThing,),
                example={"team": "design", "request": {"prompt": "A red apple"}},
                only_reads=True,
            ),
        ]

    async def _statistics(self, call: AdminRequest) -> web.Response:
        cache = self._settings().cache
        memory, redis = (self._tier(name) for name in TIERS)
        listing = {"enabled": cache.enabled, "scope": cache.scope, "max_bytes": cache.max_bytes}
        return answer({**listing, "memory": memory, "redis": redis if cache.url else None})

    def _tier(self, name: str) -> TierPage:
        evictions = {reason: self._sample("evictions_total", name, reason=reason) for reason in
                     REASONS}  # fmt: skip
        known = {reason: count for reason, count in evictions.items() if count is not None}
        return TierPage(
            hits=self._sample("lookups_total", name, result="hit") or 0,
            misses=self._sample("lookups_total", name, result="miss") or 0,
            entries=self._sample("entries", name),
            bytes=self._sample("bytes", name),
            evictions=known or None,
        )

    def _sample(self, metric: str, tier: str, **labels: str) -> int | None:
        value = self._registry.get_sample_value(f"gateway_cache_{metric}", {"tier": tier, **labels})
        return None if value is None else int(value)

    async def _purge(self, call: AdminRequest) -> web.Response:
        wanted = read_fields(await read_json(call.request), Purge)
        if (wanted.team is not None) + wanted.all + (wanted.fingerprint is not None) != 1:
            refuse([Fault(("team",), "name either a team, a fingerprint or all = true", BODY)])
        if wanted.fingerprint is not None:
            return await self._forget(wanted.fingerprint, call)
        if wanted.team is not None and self._settings().cache.scope == "shared":
            raise Conflict("All teams share the cache: purge it as a whole.")
        names = None if wanted.team is None else [wanted.team]
        await operations.purge_teams(self._store, names, call.by)
        await self._refresh()
        if wanted.all:
            await self._cache.clear()
        return answer(Purged(purged=True, team=wanted.team, fingerprint=None))

    async def _forget(self, fingerprint: str, call: AdminRequest) -> web.Response:
        """Take one answer out of this gateway's memory and out of Redis; the others follow.

        Logged first: no answer may go without anybody knowing who did it.
        """
        await operations.note_purge(self._store, fingerprint, call.by)
        found = await self._cache.delete(fingerprint)
        return answer(Purged(purged=bool(found), team=None, fingerprint=fingerprint))

    async def _look_up(self, call: AdminRequest) -> web.Response:
        body = await read_json(call.request)
        request = body.pop("request", None)
        wanted = read_fields(body, LookUp)
        if not isinstance(request, dict):
            refuse([Fault(("request",), "must be an object", BODY)])
        team = await operations.find_team(self._store, wanted.team)
        settings = self._settings()
        read = read_request(write_json(request), settings.models, settings.default_model)
        name = answer_name(read, scope_of(team, settings), settings)
        kept = await self._cache.get(name)
        if kept is None:
            return answer(FoundPage(kept=False, fingerprint=name))
        return answer(
            FoundPage(
                kept=True,
                fingerprint=name,
                age_seconds=round(max(0.0, call.by.now - kept.at), 3),
                bytes=len(kept.body),
                images=kept.images,
                tier=kept.tier,
            )
        )
