"""The admin API of two gateways over one Redis: a change on one holds on the other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.redis import running_redis
from tests.support.rig import ADMIN_TOKEN, PROMPT, Rig, running_rig
from tests.support.steps import until

HIT, BOUGHT = "gateway; hit", "gateway; fwd=miss; stored"
PEPPER = "a pepper of tests, long enough"


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[tuple[Rig, Rig]]:
    async with running_redis(tmp_path / "redis", appendonly="yes") as server:
        shared = {"STORE_URL": server.url, "CACHE_URL": server.url, "KEYS_PEPPER": PEPPER}
        async with running_rig(tmp_path / "a", "", None, **shared) as first:
            # Cached answers of another upstream have other names.
            shared["UPSTREAM_BASE_URL"] = first.sandbox.url
            async with running_rig(tmp_path / "b", "", None, **shared) as second:
                yield first, second


async def test_a_change_on_one_holds_on_the_other(rigs: tuple[Rig, Rig]) -> None:
    first, second = rigs
    made = await first.ask_admin("POST", "teams", json={"team": "red", "max_n": 2})
    key = (await first.ask_admin("POST", "keys", json={"team": "red"})).json["key"]
    assert (await second.generate(key)).status == 200
    lines = (await second.ask_admin("GET", "activity")).json
    assert [line["outcome"] for line in lines["requests"]] == ["miss"]
    assert (await first.ask_admin("GET", "activity")).json == lines
    signed_in = await first.ask_admin("POST", "session", None, json={"token": ADMIN_TOKEN})
    cookie = {"Cookie": signed_in.headers["Set-Cookie"].partition(";")[0]}
    shown = await second.ask_admin("GET", "session", None, headers=cookie)
    assert shown.json == {"who": "admin", "role": "admin"}
    match = {"If-Match": made.headers["ETag"]}
    body = {"limits": {"images_per_day": 1}}
    assert (await second.ask_admin("PATCH", "teams/red", json=body, headers=match)).status == 200
    assert (await first.ask_admin("PUT", "teams/red", json={}, headers=match)).status == 412
    (state,) = (await first.ask_admin("GET", "quota/red")).json["limits"]
    assert (state["used"], state["remaining"]) == (1, 0)
    changes = (await first.ask_admin("GET", "audit")).json["changes"]
    # Not in this order: the gateways' clocks may differ by the time of a read of the store.
    assert {one["action"] for one in changes} == {"team.create", "key.create", "team.change"}
    assert (await first.ask_admin("GET", "usage?by=team,hour")).json[0]["images_bought"] == 1


async def test_a_purge_on_one_holds_on_the_other(rigs: tuple[Rig, Rig]) -> None:
    first, second = rigs
    key = await first.key("red")
    await second.gateway.directory.refresh()
    for prompt in (PROMPT, "another"):
        assert (await first.generate(key, prompt)).status == 200
        assert (await second.generate(key, prompt)).headers["Cache-Status"] == HIT
    body = {"team": "red", "request": {"prompt": PROMPT}}
    found = (await first.ask_admin("POST", "cache/lookup", json=body)).json
    wanted = {"fingerprint": found["fingerprint"]}
    assert (await first.ask_admin("POST", "cache/purge", json=wanted)).json["purged"]
    await until(lambda: _keeps(second, 1), 30)
    assert (await second.generate(key, "another")).headers["Cache-Status"] == HIT
    assert (await second.generate(key)).headers["Cache-Status"] == BOUGHT
    (entry,) = (await second.ask_admin("GET", "cache/top")).json["entries"]
    assert (entry["team"], entry["hits"]) == ("red", 1)  # its first hit came from Redis
    assert (await first.ask_admin("POST", "cache/purge", json={"team": "red"})).status == 200
    assert not (await second.ask_admin("POST", "cache/lookup", json=body)).json["kept"]
    await asyncio.wait_for(second.gateway.directory.refresh(), 5)
    assert (await second.generate(key)).headers["Cache-Status"] == BOUGHT


async def _keeps(rig: Rig, answers: int) -> bool:
    found = await rig.ask_admin("GET", "cache")
    return bool(found.json["memory"]["entries"] == answers)
