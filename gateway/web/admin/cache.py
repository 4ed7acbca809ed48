"""The cache in the admin API: its state, whether an answer is cached, and purges.

No image leaves the gateway here, and no prompt unless an operator has switched that on.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isinf
from typing import Annotated, Any

from msgspec import Meta, Struct
from prometheus_client import CollectorRegistry

from gateway.cache.memory import LivingEntry
from gateway.cache.stack import CacheStack
from gateway.config.live import CurrentSettings
from gateway.config.settings import Settings
from gateway.core.admin_errors import Conflicting, NoSuchThing
from gateway.core.bounds import MOST_LISTED, Text
from gateway.core.faults import BODY, Fault
from gateway.core.model import AnsweredRequest, Bought, Team
from gateway.core.strict_json import write_json
from gateway.core.tasks import in_turns
from gateway.proxy.fingerprint import answer_name, scope_of
from gateway.proxy.image_request import read_request
from gateway.tenants import operations
from gateway.tenants.changes import OperationError
from gateway.tenants.directory import Directory
from gateway.tenants.store import DirectoryStore
from gateway.web.admin.http import AdminRequest, AdminRoute, read_fields, read_json
from gateway.web.query import refuse

REASONS = ("damaged", "expired", "replaced", "size")
METRICS = ("lookups_total", "evictions_total", "entries", "bytes")

Fingerprint = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", description="64 hexadecimal digits")]


class TierState(Struct, frozen=True, kw_only=True):
    """One tier, counted by this gateway since its start. Null values are unknown."""

    hits: int
    misses: int
    entries: int | None
    bytes: int | None
    evictions: dict[str, int] | None


class CacheState(Struct, frozen=True, kw_only=True):
    """The cache of this gateway: memory, and behind it the disk, or a Redis if there is one.

    The disk's entries and bytes include all pictures that are kept.
    """

    enabled: bool
    scope: str
    max_bytes: int
    memory: TierState
    disk: TierState | None
    redis: TierState | None


class Purge(Struct, frozen=True, kw_only=True):
    """The answers to purge: one answer, those of one team, or all."""

    team: Text | None = None
    all: bool = False
    fingerprint: Fingerprint | None = None


class Purged(Struct, frozen=True, kw_only=True):
    """The purged answers: one answer, those of one team, or all if neither is named.

    `purged` is false if the one answer was not cached.
    """

    purged: bool
    team: str | None
    fingerprint: str | None


class LookUp(Struct, frozen=True, kw_only=True):
    """A request, as a client of the team would send it."""

    team: Text
    request: dict[str, Any]


class FoundAnswer(Struct, frozen=True, kw_only=True):
    """Whether the answer is cached, with its age in seconds and its size in bytes if so."""

    kept: bool
    fingerprint: str
    age_seconds: float | None = None
    bytes: int | None = None
    images: int | None = None
    tier: str | None = None


class TopQuery(Struct, frozen=True, kw_only=True):
    """How many requests to list."""

    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 50


class TopRequest(Struct, frozen=True, kw_only=True):
    """A request with a cached answer, and its cache hits. `team` sent it first.

    `prompt` has the first 200 characters if [admin] show_prompts is on, else it is null.
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


class TopRequests(Struct, frozen=True, kw_only=True):
    """Requests with answers in this gateway's memory, the most repeated first."""

    entries: list[TopRequest]


def _name_of(request: dict[str, Any], team: Team, settings: Settings) -> str:
    """The name of the answer to a team's request. Raises InvalidRequest."""
    read = read_request(write_json(request), settings.models, settings.default_model)
    return answer_name(read, scope_of(team, settings), settings)


Samples = Mapping[tuple[str, ...], int]
"""Values of metrics by their names and the values of their labels, of which `tier` is the first."""


def _tier(samples: Samples, name: str) -> TierState:
    counts = {each: samples.get(("evictions_total", name, each)) for each in REASONS}
    evictions = {reason: count for reason, count in counts.items() if count is not None}
    return TierState(
        hits=samples.get(("lookups_total", name, "hit"), 0),
        misses=samples.get(("lookups_total", name, "miss"), 0),
        entries=samples.get(("entries", name)),
        bytes=samples.get(("bytes", name)),
        evictions=evictions or None,
    )


@dataclass(frozen=True)
class AdminCache:
    """The routes of the cache. `registry` has its metrics."""

    store: DirectoryStore
    directory: Directory
    cache: CacheStack
    registry: CollectorRegistry
    settings: CurrentSettings
    _walking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @AdminRoute("GET", "/cache", "State of the cache")
    async def _state(self, call: AdminRequest) -> CacheState:
        cache, images = self.settings().cache, self.settings().images
        samples = self._samples()
        return CacheState(
            enabled=cache.enabled,
            scope=cache.scope,
            max_bytes=cache.max_bytes,
            memory=_tier(samples, "memory"),
            disk=_tier(samples, "disk") if self.cache.disk and images.enabled else None,
            redis=_tier(samples, "redis") if cache.url else None,
        )

    def _samples(self) -> Samples:
        """The cache's metrics. To collect all metrics would hold the loop: teams have thousands."""
        names = [f"gateway_cache_{name}" for name in METRICS]
        return {
            (sample.name.removeprefix("gateway_cache_"), *sample.labels.values()): int(sample.value)
            for family in self.registry.restricted_registry(names).collect()
            for sample in family.samples
        }

    @AdminRoute(
        "POST",
        "/cache/purge",
        "Purge one answer, one team's answers, or all answers",
        body=Purge,
        errors=(NoSuchThing, Conflicting),
        example={"team": "design"},
    )
    async def _purge(self, call: AdminRequest) -> Purged:
        wanted = read_fields(await read_json(call), Purge)
        if (wanted.team is not None) + wanted.all + (wanted.fingerprint is not None) != 1:
            refuse([Fault(("team",), "name either a team, a fingerprint or all = true", BODY)])
        if wanted.fingerprint is not None:
            return await self._purge_one(wanted.fingerprint, call)
        if wanted.team is not None and self.settings().cache.scope == "shared":
            raise OperationError("All teams share the cache: purge it as a whole.")
        names = None if wanted.team is None else [wanted.team]
        await operations.purge_teams(self.store, names, call.by)
        await self.directory.refresh()  # from now on this gateway uses the new fingerprints
        if wanted.all:
            await self.cache.answers.clear()
        return Purged(purged=True, team=wanted.team, fingerprint=None)

    async def _purge_one(self, fingerprint: str, call: AdminRequest) -> Purged:
        """Remove one answer from this gateway's memory, disk and Redis; other gateways follow.

        The audit entry comes first, so that no answer goes unless the log has who removed it.
        """
        await operations.note_purge(self.store, fingerprint, call.by)
        found = await self.cache.answers.delete(fingerprint)
        return Purged(purged=bool(found), team=None, fingerprint=fingerprint)

    @AdminRoute(
        "POST",
        "/cache/lookup",
        "Whether the answer to a request is cached",
        body=LookUp,
        errors=(NoSuchThing,),
        example={"team": "design", "request": {"prompt": "A red apple"}},
        only_reads=True,
    )
    async def _look_up(self, call: AdminRequest) -> FoundAnswer:
        wanted = read_fields(await read_json(call), LookUp)
        team = await operations.find_team(self.store, wanted.team)
        # In a thread, because a request may be as long as a body.
        name = await asyncio.to_thread(_name_of, wanted.request, team, self.settings())
        kept = await self.cache.answers.look(name)
        if kept is None:
            return FoundAnswer(kept=False, fingerprint=name)
        return FoundAnswer(
            kept=True,
            fingerprint=name,
            age_seconds=round(max(0.0, call.by.now - kept.at), 3),
            bytes=len(kept.body),
            images=kept.images,
            tier=kept.tier,
        )

    @AdminRoute(
        "GET", "/cache/top", "The most repeated requests in this gateway's memory", query=TopQuery
    )
    async def _top(self, call: AdminRequest) -> TopRequests:
        async with self._walking:  # each walk begins with a copy of all names
            first = await self.cache.memory.most_hits(call.query.limit, self._is_valid)
        now = call.by.now
        return TopRequests(
            entries=[self._top_request(entry, now) async for entry in in_turns(first)]
        )

    def _is_valid(self, bought: Bought) -> bool:
        """Whether clients can still get an answer: not after a purge of its team's cache."""
        about = bought.about
        if about is None:
            return False
        team = self.directory.teams.get(about.team)
        return team is not None and scope_of(team, self.settings()) == about.scope

    def _top_request(self, entry: LivingEntry, now: float) -> TopRequest:
        about: AnsweredRequest = entry.value.about
        return TopRequest(
            fingerprint=entry.key,
            team=about.team,
            model=about.model,
            size=about.size,
            quality=about.quality,
            hits=entry.hits,
            bytes=entry.bytes,
            age_seconds=round(max(0.0, now - entry.value.at), 3),
            expires_seconds=None if isinf(entry.left) else round(entry.left, 3),
            prompt=about.prompt if self.settings().admin.show_prompts else None,
        )
