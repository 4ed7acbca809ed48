"""No request to the admin API holds the event loop, with a big store and a full cache."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.web.admin.http import API
from tests.support.big_store import Size
from tests.support.holds import MOST_SECONDS, big_rig, heavy_requests, held_by, hold_of
from tests.support.stores import KINDS, Places

SIZE = Size(keys=2, busy=1, alerts=4_000, lines=4_000, error_hours=3, latency_hours=48)

LONGEST = 1.5 * MOST_SECONDS
"""With a margin for machines that are slower than ours."""

QUIET_SECONDS = 5.5
"""In this time everything runs once that a gateway does every few seconds."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
async def test_no_request_holds_the_event_loop(kind: str, tmp_path: Path, places: Places) -> None:
    now = time.time()
    url = places.redis_url() if kind == "redis" else f"sqlite:{tmp_path / 'gateway.db'}"
    async with big_rig(tmp_path, url, SIZE, now) as rig:
        _, quiet = await held_by(asyncio.sleep(QUIET_SECONDS))
        requests = heavy_requests(SIZE, now)
        held = {request.name: (await hold_of(rig, request, LONGEST)).cpu for request in requests}
        routes = {
            f"GET {route.path.removeprefix(API)}"
            for route in rig.gateway.admin_routes()
            if route.method == "GET"
        }
    assert routes <= {request.route for request in requests}
    assert {name: cpu for name, cpu in held.items() if cpu > LONGEST} == {}
    assert quiet.cpu <= LONGEST
