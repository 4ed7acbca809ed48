"""How long requests to the admin API hold the event loop, in a gateway with a big store.

A hold is the CPU time of the loop's own thread between two turns of a ticker: that does not grow
with other work on the machine. The client is in a thread of its own.
"""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.core.periods import DAY_SECONDS, utc
from gateway.server.gateway import Gateway
from gateway.server.run import exempt_code_from_collection
from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.big_store import Size, fill_cache, fill_store, key_id, team_name
from tests.support.rig import ADMIN_TOKEN, UPSTREAM_KEY, Rig, rig_of, settings_for

T = TypeVar("T")

MOST_SECONDS = 0.05
"""The longest hold that the gateway promises."""

TICK_SECONDS = 0.001
ATTEMPTS = 3

CROWD = 20
"""Clients that ask for the same at once."""

WEBHOOK = """
[alerts.webhooks.ops]
url_env = "GATEWAY_OPS_URL"
"""


class Held(Struct):
    """The longest holds so far in seconds: of CPU time, and of time."""

    cpu: float = 0.0
    wall: float = 0.0


class Heavy(Struct, frozen=True):
    """A request that makes as much work for its route as it can."""

    route: str
    path: str
    body: dict[str, Any] | None = None
    clients: int = 1

    @property
    def name(self) -> str:
        """The request in a table."""
        several = f"{self.clients} x " if self.clients > 1 else ""
        return f"{several}{self.route.partition(' ')[0]} {self.path}"


def heavy_requests(size: Size, now: float) -> Sequence[Heavy]:
    """The heaviest requests to each route. A purge of all answers comes last."""
    first, days_90, yesterday = (
        utc(now - back * DAY_SECONDS)[:10] for back in (size.days - 1, 89, 1)
    )
    team, key = team_name(1), key_id(1, 1)
    groups = "team,key,model,size,quality,outcome"
    return [
        Heavy("GET /teams", "teams"),
        Heavy("GET /teams/{team}", f"teams/{team}"),
        Heavy("GET /keys", "keys"),
        Heavy("GET /keys/{id}", f"keys/{key}"),
        Heavy("GET /quota", "quota"),
        Heavy("GET /quota", "quota", clients=CROWD),
        Heavy("GET /quota/{team}", f"quota/{team}"),
        Heavy("GET /usage", f"usage?from={first}&by=team,key"),
        Heavy("GET /usage", f"usage?from={first}&by={groups}"),
        Heavy("GET /usage", f"usage?from={yesterday}&by=hour,{groups}&format=csv"),
        Heavy("GET /overview", f"overview?from={first}"),
        Heavy("GET /overview", f"overview?from={yesterday}"),
        Heavy("GET /activity", "activity?limit=1000"),
        Heavy("GET /activity", "activity?limit=1000&id=none"),
        Heavy("GET /errors", f"errors?from={days_90}"),
        Heavy("GET /cache", "cache"),
        Heavy("GET /cache/top", "cache/top?limit=1000"),
        Heavy("GET /alerts", "alerts?limit=1000"),
        Heavy("GET /config", "config"),
        Heavy("GET /audit", "audit?limit=10000"),
        Heavy("GET /purchases", "purchases?limit=1000"),
        Heavy("GET /purchases/{id}", "purchases/none"),
        Heavy("GET /pictures/{sha256}", f"pictures/{'0' * 64}"),
        Heavy("GET /session", "session"),
        Heavy(
            "POST /cache/lookup",
            "cache/lookup",
            {"team": team, "request": {"prompt": "a", **_long_names(12_000)}},
        ),
        Heavy("POST /teams", "teams", {"team": "new", "limits": _long_names(10_000)}),
        Heavy("POST /keys", "keys", {"team": "x" * 1_000_000}),
        Heavy("POST /cache/purge", "cache/purge", {"team": team}),
        Heavy("POST /cache/purge", "cache/purge", {"all": True}),
    ]


def _long_names(count: int) -> dict[str, int]:
    return {f"{number:060}": 1 for number in range(count)}


@asynccontextmanager
async def big_rig(folder: Path, url: str, size: Size, now: float) -> AsyncIterator[Rig]:
    """A gateway with a big store at this URL, and a full cache."""
    async with Sandbox(SandboxSettings(api_key=UPSTREAM_KEY, picture="dot")) as upstream:
        places = {"STORE_URL": url, "KEYS_PEPPER": "p" * 40, "OPS_URL": "http://127.0.0.1:1/"}
        settings = settings_for(folder, upstream, WEBHOOK, **places)
        await fill_store(settings.store, size, now)
        async with rig_of(Gateway(settings), upstream) as rig:
            with _collection_of_a_server():
                await fill_cache(rig.gateway.cache.memory, size, now)
                yield rig


@contextmanager
def _collection_of_a_server() -> Iterator[None]:
    """Collect garbage as a serving gateway does: otherwise each full run takes 0.1 s."""
    thresholds = gc.get_threshold()
    exempt_code_from_collection()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def hold_of(rig: Rig, heavy: Heavy, enough: float = 0.0) -> Held:
    """The longest hold while the gateway serves a request: the least of some attempts.

    A change is made once only, and no attempt follows one of `enough` seconds or less.
    """
    method = heavy.route.partition(" ")[0]
    url = f"{rig.admin_url}/admin/v1/{heavy.path}"
    found = []
    for _ in range(ATTEMPTS if method == "GET" else 1):
        clients = [asyncio.to_thread(_ask, method, url, heavy.body) for _ in range(heavy.clients)]
        statuses, held = await held_by(asyncio.gather(*clients))
        assert max(statuses) < 500, (heavy.name, statuses)
        found.append(held)
        if held.cpu <= enough:
            break
    return min(found, key=lambda held: held.cpu)


async def held_by(work: Awaitable[T]) -> tuple[T, Held]:
    """Return what the work returns, and the longest holds of the loop meanwhile."""
    found = Held()
    ticking = asyncio.create_task(_tick(found))
    await asyncio.sleep(2 * TICK_SECONDS)
    try:
        result = await work
        await asyncio.sleep(2 * TICK_SECONDS)  # the ticker sees the last piece of work, too
    finally:
        ticking.cancel()
    return result, found


async def _tick(found: Held) -> None:
    while True:
        cpu, wall = time.thread_time(), time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        found.cpu = max(found.cpu, time.thread_time() - cpu)
        found.wall = max(found.wall, time.perf_counter() - wall - TICK_SECONDS)


def _ask(method: str, url: str, body: dict[str, Any] | None) -> int:
    """The status of the answer, which is read and dropped."""
    at = urlsplit(url)
    connection = HTTPConnection(at.hostname or "", at.port, timeout=120)
    try:
        text = None if body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
        connection.request(method, f"{at.path}?{at.query}", text, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
