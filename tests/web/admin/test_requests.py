"""Recent requests, errors and the most repeated requests as an operator sees them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Limits
from gateway.upstream.sandbox import SandboxSettings
from tests.support.gateways import Gateways, running_gateways
from tests.support.rig import PROMPT, UPSTREAM_KEY, Rig, running_rig

JSON = dict[str, Any]


async def told(rig: Rig, query: str = "") -> list[JSON]:
    got = await rig.ask_admin("GET", f"activity?{query}")
    assert got.status == 200
    requests: list[JSON] = got.json["requests"]
    return requests


async def test_each_request_is_told(rig: Rig) -> None:
    key = await rig.key("red", limits=Limits(images_per_day=1))
    for prompt in (PROMPT, PROMPT, "another"):
        await rig.generate(key, prompt)
    await rig.generate("sk-gw-wrong")
    stranger, refused, hit, miss = await told(rig)
    assert [one["outcome"] for one in (stranger, refused, hit, miss)] == [
        "unauthenticated",
        "insufficient_quota",
        "hit",
        "miss",
    ]
    assert miss["cost_usd"] == hit["saved_usd"] != "0"
    assert miss["team"] == refused["team"] == "red"
    assert miss["key"] == key.partition("_")[0]
    assert (miss["model"], miss["size"], miss["quality"]) == ("gpt-image-2", "1024x1024", "auto")
    assert miss["upstream_ms"] <= miss["total_ms"]
    assert (hit["upstream_ms"], hit["fingerprint"]) == (None, miss["fingerprint"])
    assert len(miss["fingerprint"]) == 16
    assert (refused["status"], refused["code"]) == (429, "insufficient_quota")
    assert (stranger["team"], stranger["key"], stranger["fingerprint"]) == (None, None, None)
    assert {one["requests"] for one in (stranger, refused, hit, miss)} == {1}


async def test_they_are_told_of_a_span_of_time(rig: Rig) -> None:
    key = await rig.key("red")
    await rig.generate(key)
    (first,) = await told(rig)
    today = first["at"][:10]
    assert await told(rig, f"from={today}&to={today}") == [first]
    assert await told(rig, f"from={first['at']}") == [first]
    assert await told(rig, f"to={first['at']}") == []
    assert await told(rig, "from=2020-01-01&to=2020-12-31") == []
    got = await rig.ask_admin("GET", "activity?from=2026-01-02&to=2026-01-01")
    assert (got.status, got.json["error"]["param"]) == (400, "to")


async def test_what_asked_for_no_image_tells_its_route(rig: Rig) -> None:
    for path in ("quota", "usage", "models", "nothing"):
        assert (await rig.get(f"/v1/{path}", "sk-gw-wrong")).status in (401, 404)
    await rig.generate("sk-gw-wrong")
    routes = [one["route"] for one in await told(rig)]
    assert routes == [None, "unknown", "models", "usage", "quota"]


async def test_they_are_filtered(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    await rig.generate(red, headers={"X-Request-Id": "look-for-me"})
    await rig.generate(red, n=99)
    await rig.generate(blue)
    (found,) = await told(rig, "id=look-for-me")
    assert found["outcome"] == "miss"
    assert [one["team"] for one in await told(rig, "team=blue")] == ["blue"]
    assert len(await told(rig, f"key={red.partition('_')[0]}")) == 2
    assert len(await told(rig, "outcome=miss")) == 2
    (wrong,) = await told(rig, "errors=true")
    assert (wrong["team"], wrong["code"]) == ("red", "integer_above_max_value")


async def test_pages_follow_each_other(rig: Rig) -> None:
    key = await rig.key()
    ids = [f"r{number}" for number in range(7)]
    for id in ids:
        await rig.generate(key, headers={"X-Request-Id": id})
    found: list[str] = []
    query = "limit=3"
    while True:
        page = (await rig.ask_admin("GET", f"activity?{query}")).json
        found += [one["id"] for one in page["requests"]]
        await rig.generate(key)
        if page["next"] is None:
            break
        query = f"limit=3&before={page['next']}"
    assert found == ids[::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "before=x", "errors=maybe", "teem=red"])
async def test_a_bad_question_is_refused(rig: Rig, query: str) -> None:
    assert (await rig.ask_admin("GET", f"activity?{query}")).status == 400


async def test_errors_are_told_by_kind(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    for _ in range(3):
        await rig.generate(red, n=99)
    await rig.generate(blue, n=99, headers={"X-Request-Id": "last"})
    await rig.generate("sk-gw-wrong")
    kinds = (await rig.ask_admin("GET", "errors?from=2020-01-01")).json["kinds"]
    assert [(kind["outcome"], kind["requests"]) for kind in kinds] == [
        ("invalid_request", 4),
        ("unauthenticated", 1),
    ]
    assert (kinds[0]["last_id"], kinds[0]["status"], kinds[0]["code"]) == (
        "last",
        400,
        "integer_above_max_value",
    )
    (of_red,) = (await rig.ask_admin("GET", "errors?from=2020-01-01&team=red")).json["kinds"]
    assert of_red["requests"] == 3
    assert (await rig.ask_admin("GET", "errors?to=2020-01-01")).json["kinds"] == []
    assert (await rig.ask_admin("GET", "errors?from=2026-01-02&to=2026-01-01")).status == 400


async def test_a_purchase_whose_client_left_is_told_at_its_end(tmp_path: Path) -> None:
    sandbox = SandboxSettings(api_key=UPSTREAM_KEY, picture="dot", latency=1.0)
    async with running_rig(tmp_path, sandbox=sandbox) as rig:
        key = await rig.key()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await rig.generate(key)
        await rig.gateway.proxy.flights.drain(30)
        late, early = await told(rig)
        assert (early["outcome"], early["cost_usd"]) == ("client_closed", "0")
        assert late["outcome"] == "miss"
        assert late["id"] == early["id"]
        assert late["cost_usd"] != "0"
        assert late["upstream_ms"] >= 900


# -- the most repeated --------------------------------------------------------------------------


async def top(rig: Rig, query: str = "") -> list[JSON]:
    got = await rig.ask_admin("GET", f"cache/top?{query}")
    assert got.status == 200
    entries: list[JSON] = got.json["entries"]
    return entries


async def test_the_most_repeated_come_first_and_prompts_not_at_all(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    for key, prompt, times in ((red, "once", 1), (red, "often", 5), (blue, "twice", 3)):
        for _ in range(times):
            assert (await rig.generate(key, prompt)).status == 200
    often, twice = await top(rig)
    assert (often["team"], often["hits"], often["prompt"]) == ("red", 4, None)
    assert (twice["team"], twice["hits"]) == ("blue", 2)
    assert (often["model"], often["size"], often["quality"]) == (
        "gpt-image-2",
        "1024x1024",
        "auto",
    )
    (shown, *_) = await told(rig, "outcome=hit&team=red")
    assert often["fingerprint"].startswith(shown["fingerprint"])
    assert often["bytes"] > 0
    assert 0 <= often["age_seconds"] < often["expires_seconds"]
    assert [entry["hits"] for entry in await top(rig, "limit=1")] == [4]


async def test_prompts_are_shown_where_that_is_switched_on(tmp_path: Path) -> None:
    async with running_rig(tmp_path, ADMIN_SHOW_PROMPTS="true") as rig:
        key = await rig.key()
        for _ in range(2):
            await rig.generate(key, "ä" * 300)
        (entry,) = await top(rig)
        assert entry["prompt"] == "ä" * 200


async def test_what_was_kept_over_a_restart_is_told_again(tmp_path: Path) -> None:
    keep = str(tmp_path / "cache")
    async with running_rig(tmp_path, CACHE_KEEP_PATH=keep) as rig:
        key = await rig.key()
        await rig.generate(key)
    async with running_rig(
        tmp_path, CACHE_KEEP_PATH=keep, UPSTREAM_BASE_URL=rig.sandbox.url
    ) as rig:
        assert await top(rig) == []
        await rig.generate(key)
        (entry,) = await top(rig)
        assert (entry["hits"], entry["team"]) == (1, "team")


# -- several gateways ---------------------------------------------------------------------------


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Gateways]:
    sandbox = SandboxSettings(api_key=UPSTREAM_KEY, picture="dot")
    async with running_gateways(tmp_path, 2, sandbox) as gateways:
        yield gateways


async def test_each_gateway_tells_of_all(gateways: Gateways) -> None:
    first, second = gateways.rigs
    key = await first.key("red")
    await gateways.refresh()
    await first.generate(key)
    await second.generate(key)
    await second.generate(key)
    await second.generate(key, n=99)
    assert len(await told(second)) >= 3  # its own are written by now
    lines = await told(first)
    assert [one["outcome"] for one in lines] == ["invalid_request", "hit", "hit", "miss"]
    assert await told(second) == lines
    (kind,) = (await first.ask_admin("GET", "errors?from=2020-01-01")).json["kinds"]
    assert kind["requests"] == 1
    (entry,) = await top(second)  # the first time it came from the Redis behind the memories
    assert (entry["team"], entry["hits"]) == ("red", 1)
