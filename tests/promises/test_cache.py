"""The cache, end to end: which requests are the same, who gets an answer, and for how long.

The upstream's counts say what was bought, not the gateway's own.
"""

import asyncio
import time
import unicodedata
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
from multidict import CIMultiDict

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.rig import FLAT, PROMPT, Got, Rig, running_rig
from tests.support.steps import calls, drawing, metric, status, until

HIT = "gateway; hit"
MISS = "gateway; fwd=miss"
STORED = "gateway; fwd=miss; stored"


def raw(rig: Rig, key: str, body: str | bytes, **headers: str) -> Awaitable[Got]:
    """Send a body as it is."""
    return rig.post(key, data=body, headers={"Content-Type": "application/json", **headers})


# -- the same request ---------------------------------------------------------------------------

ORIGINAL = (
    '{"model":"gpt-image-2","prompt":"café","size":"1024x1024","n":1,"quality":"low","x":[1]}'
)
SAME = [
    r'{"quality":"lo\u0077", "x":[ 1 ],"n":1,"size":"1024x1024","\u0070rompt":"caf\u00E9"}',
    '{"model":null,"prompt":"café","size":null,"n":null,"quality":"low","x":[1],"user":"u1"}',
]
OTHER = [
    '{"prompt":"' + unicodedata.normalize("NFD", "café") + '","quality":"low","x":[1]}',
    '{"prompt":"café","quality":"low","x":[1.0]}',
    '{"prompt":"café","quality":"low","x":[1],"background":null}',
]
"""tests/proxy/test_fingerprint.py has further requests that are the same, or others."""


async def test_the_same_request_in_any_writing_is_bought_once(rig: Rig) -> None:
    key = await rig.key()
    first = await raw(rig, key, ORIGINAL)
    assert status(first) == STORED
    for body in SAME:
        again = await raw(rig, key, body)
        assert (status(again), again.body) == (HIT, first.body)
    assert calls(rig) == 1
    for body in OTHER:
        assert status(await raw(rig, key, body)) == STORED
    assert calls(rig) == 1 + len(OTHER)


async def test_both_paths_share_the_cache(rig: Rig) -> None:
    key = await rig.key()
    assert status(await rig.generate(key)) == STORED
    async with rig.session.post(
        f"{rig.url}/api/v1/images/generations",
        headers={"Authorization": f"Bearer {key}"},
        json={"prompt": PROMPT},
    ) as response:
        assert response.headers["Cache-Status"] == HIT


async def test_ignore_fields_can_be_configured(tmp_path: Path) -> None:
    async with running_rig(tmp_path, '[cache]\nignore_fields = ["seed"]\n') as rig:
        key = await rig.key()
        assert status(await rig.generate(key, seed=1)) == STORED
        assert status(await rig.generate(key, seed=2)) == HIT
        assert status(await rig.generate(key, user="u")) == STORED


# -- teams and keys ----------------------------------------------------------------------------


async def test_a_team_never_gets_anothers_picture(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    assert status(await rig.generate(red)) == STORED
    assert status(await rig.generate(blue)) == STORED
    only = {"Cache-Control": "only-if-cached"}
    green = await rig.key("green")
    assert (await rig.generate(green, headers=only)).error[2] == "not_cached"
    assert calls(rig) == 2


async def test_all_keys_of_a_team_share(rig: Rig) -> None:
    first, second = await rig.key("red"), await rig.further_key("red")
    assert status(await rig.generate(first)) == STORED
    assert status(await rig.generate(second)) == HIT
    assert calls(rig) == 1


# -- one cache for all teams --------------------------------------------------------------------


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Rig]:
    toml = f'{FLAT}[cache]\nscope = "shared"\n'
    async with running_rig(tmp_path, toml, drawing(latency=0.2)) as rig:
        yield rig


async def test_teams_answer_each_other_pay_apart_and_do_not_see_who_paid(shared: Rig) -> None:
    red, blue = await shared.key("red"), await shared.key("blue")
    bought = await shared.generate(red, headers={"X-Request-Id": "reds-own"})
    hit = await shared.generate(blue, headers={"X-Request-Id": "blues-own"})
    assert (status(hit), hit.body, calls(shared)) == (HIT, bought.body, 1)
    assert "red" not in str(dict(hit.headers)) + hit.body.decode()
    paid = await shared.usage("red")
    assert (paid.images_bought, paid.images_cached, paid.cost) == (1, 0, 40_000)
    free = await shared.usage("blue")
    assert (free.images_bought, free.images_cached, free.cost) == (0, 1, 0)


async def test_teams_share_a_flight_but_not_its_leaders_limits(shared: Rig) -> None:
    poor = await shared.key("poor", limits=Limits(images_per_day=0))
    rich = await shared.key("rich", limits=Limits(images_per_day=1))
    got = await asyncio.gather(*(shared.generate(key) for key in [poor, rich] * 5))
    refused, served = got[0::2], got[1::2]
    assert [answer.status for answer in served] == [200] * 5
    assert shared.sandbox.counts.asked == 1
    for answer in refused:
        # Refused by its own limit, or served by the other team's purchase.
        assert answer.status == 200 or "Team poor's" in answer.json["error"]["message"]
    assert "poor" not in "".join(str(answer.json) for answer in served)


# -- hits ---------------------------------------------------------------------------------------


async def test_a_hit_is_free_and_says_what_it_saved(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        key = await rig.key(limits=Limits(images_per_day=3))
        bought = await rig.generate(key, n=3)
        hit = await rig.generate(key, n=3)
        assert bought.headers["x-gateway-cost-usd"] == "0.12"
        assert bought.headers["x-gateway-saved-usd"] == "0"
        assert "Age" not in bought.headers
        assert bought.headers["x-ratelimit-remaining-images"] == "0"
        assert hit.headers["x-gateway-cost-usd"] == "0"
        assert hit.headers["x-gateway-saved-usd"] == "0.12"
        assert hit.headers["Age"] == "0"
        assert "x-ratelimit-remaining-images" not in hit.headers
        assert hit.body == bought.body
        usage = await rig.usage()
        assert (usage.requests, usage.images_bought, usage.images_cached) == (2, 3, 3)
        assert (usage.cost, usage.saved) == (120_000, 120_000)


async def test_hits_are_served_when_every_limit_is_reached(rig: Rig) -> None:
    limits = Limits(images_per_day=1, cost_per_month=1_000_000, requests_per_minute=1)
    key = await rig.key(limits=limits)
    assert status(await rig.generate(key)) == STORED
    assert (await rig.generate(key, None)).status == 429
    for _ in range(5):
        assert status(await rig.generate(key)) == HIT
    await rig.key(limits=Limits(images_per_day=0, concurrent_requests=0))
    assert status(await rig.generate(key)) == HIT


async def test_policy_comes_before_the_cache(rig: Rig) -> None:
    """A request that the team's policy forbids is not answered from the cache either."""
    key = await rig.key()
    assert status(await rig.generate(key, size="1536x1024")) == STORED
    await rig.key(sizes=("1024x1024",))
    assert (await rig.generate(key, size="1536x1024")).error[2] == "size_not_allowed"


# -- Cache-Control ------------------------------------------------------------------------------


async def test_no_cache_buys_a_fresh_answer_and_keeps_it(rig: Rig) -> None:
    key = await rig.key()
    deliver(rig, "first")
    assert status(await rig.generate(key)) == STORED
    deliver(rig, "fresh")
    fresh = await rig.generate(key, headers={"Cache-Control": "no-cache"})
    assert status(fresh) == "gateway; fwd=request; stored"
    assert b"fresh" in fresh.body
    kept = await rig.generate(key)
    assert status(kept) == HIT
    assert kept.body == fresh.body
    assert calls(rig) == 2


async def test_no_store_buys_a_fresh_answer_and_keeps_nothing(rig: Rig) -> None:
    key, no_store = await rig.key(), {"Cache-Control": "no-store"}
    assert status(await rig.generate(key, headers=no_store)) == "gateway; fwd=request"
    deliver(rig, "first")
    assert status(await rig.generate(key)) == STORED
    deliver(rig, "fresh")
    fresh = await rig.generate(key, headers=no_store)
    assert status(fresh) == "gateway; fwd=request"
    assert b"fresh" in fresh.body
    kept = await rig.generate(key)
    assert status(kept) == HIT
    assert b"first" in kept.body
    assert calls(rig) == 3


def deliver(rig: Rig, picture: str) -> None:
    """Have the sandbox deliver this from now on."""
    body = f'{{"created":1,"data":[{{"b64_json":"{picture}"}}]}}'
    rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=body)


async def test_max_age_accepts_only_answers_that_are_young_enough(rig: Rig) -> None:
    key = await rig.key()
    await rig.generate(key)
    await asyncio.sleep(1.2)
    young = await rig.generate(key, headers={"Cache-Control": "max-age=60"})
    assert status(young) == HIT
    assert int(young.headers["Age"]) >= 1
    old = {"Cache-Control": "max-age=1, only-if-cached"}
    assert (await rig.generate(key, headers=old)).error[2] == "not_cached"
    assert status(await rig.generate(key, headers={"Cache-Control": "max-age=1"})) == STORED
    assert status(await rig.generate(key)) == HIT
    assert calls(rig) == 2


async def test_only_if_cached_never_buys(rig: Rig) -> None:
    key = await rig.key()
    only = {"Cache-Control": "only-if-cached"}
    missing = await rig.generate(key, headers=only)
    assert missing.error == (504, "invalid_request_error", "not_cached")
    assert missing.headers["x-should-retry"] == "false"
    await rig.generate(key)
    assert status(await rig.generate(key, headers=only)) == HIT
    for contrary in ("only-if-cached, no-cache", "no-store, only-if-cached"):
        got = await rig.generate(key, headers={"Cache-Control": contrary})
        assert got.error[2] == "not_cached"
    assert calls(rig) == 1
    assert (await rig.usage()).images_bought == 1


async def test_only_if_cached_does_not_wait_for_a_flight(tmp_path: Path) -> None:
    async with running_rig(tmp_path, sandbox=drawing(latency=1)) as rig:
        key = await rig.key()
        buying = asyncio.create_task(rig.generate(key))
        await until(lambda: calls(rig) == 1)
        got = await rig.generate(key, headers={"Cache-Control": "only-if-cached"})
        assert got.error[2] == "not_cached"
        assert status(await buying) == STORED


async def test_directives_in_several_lines_are_joined(rig: Rig) -> None:
    key = await rig.key()
    await rig.generate(key)
    headers = CIMultiDict([("Cache-Control", "max-age=100"), ("Cache-Control", "no-store")])
    headers["Authorization"] = f"Bearer {key}"
    url, body = f"{rig.url}/v1/images/generations", {"prompt": PROMPT}
    async with rig.session.post(url, headers=headers, json=body) as response:
        assert response.headers["Cache-Status"] == "gateway; fwd=request"


# -- off ----------------------------------------------------------------------------------------


async def test_without_a_cache_every_request_is_bought(tmp_path: Path) -> None:
    async with running_rig(tmp_path, "[cache]\nenabled = false\n") as rig:
        key = await rig.key()
        for count in (1, 2, 3):
            assert status(await rig.generate(key)) == "gateway; fwd=bypass"
            assert calls(rig) == count
        only = {"Cache-Control": "only-if-cached"}
        assert (await rig.generate(key, headers=only)).error[2] == "not_cached"


async def test_a_team_without_a_cache_leaves_the_others_theirs(rig: Rig) -> None:
    on, off = await rig.key("on"), await rig.key("off", cache=False)
    for _ in range(2):
        assert status(await rig.generate(off)) == "gateway; fwd=bypass"
    assert status(await rig.generate(on)) == STORED
    assert status(await rig.generate(on)) == HIT
    await rig.key("on", cache=False)
    assert status(await rig.generate(on)) == "gateway; fwd=bypass"
    assert calls(rig) == 4


# -- bounds -------------------------------------------------------------------------------------


async def test_memory_is_bounded_and_the_least_used_leave_first(tmp_path: Path) -> None:
    async with running_rig(tmp_path, CACHE_MAX_BYTES="6000", IMAGES_ENABLED="false") as rig:
        key = await rig.key()
        favourite = await rig.generate(key, "favourite")
        assert status(favourite) == STORED
        for number in range(30):
            assert status(await rig.generate(key, f"prompt {number}")) == STORED
            assert status(await rig.generate(key, "favourite")) == HIT
            assert await metric(rig, "gateway_cache_bytes") <= 6000
        kept = await metric(rig, "gateway_cache_entries")
        assert 2 <= kept < 30
        assert await metric(rig, "gateway_cache_evictions_total") == 31 - kept
        assert status(await rig.generate(key, "prompt 29")) == HIT
        assert status(await rig.generate(key, "prompt 0")) == STORED


@pytest.mark.parametrize("option", ["CACHE_MAX_ENTRY_BYTES", "CACHE_MAX_BYTES"])
async def test_an_answer_that_is_too_large_is_delivered_and_not_kept(
    tmp_path: Path, option: str
) -> None:
    async with running_rig(tmp_path, "", None, IMAGES_ENABLED="false", **{option: "100"}) as rig:
        key = await rig.key()
        for _ in range(2):
            assert status(await rig.generate(key)) == MISS
        assert calls(rig) == 2
        assert await metric(rig, "gateway_cache_entries") == 0


async def test_an_answer_is_served_again_for_its_time_to_live(tmp_path: Path) -> None:
    async with running_rig(tmp_path, CACHE_TTL_SECONDS="1") as rig:
        key = await rig.key()
        first = await rig.generate(key)
        assert status(await rig.generate(key)) == HIT
        await asyncio.sleep(1.05)
        second = await rig.generate(key)
        assert status(second) == STORED
        assert calls(rig) == 2
        assert first.status == second.status


# -- URLs ---------------------------------------------------------------------------------------


async def test_a_cached_answer_never_has_a_dead_url(tmp_path: Path) -> None:
    settings = drawing(answer="url", url_ttl=1)
    async with running_rig(tmp_path, sandbox=settings) as rig:
        key = await rig.key()
        started, hits = time.monotonic(), 0
        while time.monotonic() - started < 1.5:
            got = await rig.generate(key)
            async with rig.session.get(got.json["data"][0]["url"]) as picture:
                assert picture.status == 200
                assert picture.headers["Content-Type"] == "image/png"
            hits += status(got) == HIT
            await asyncio.sleep(0.02)
        assert hits > 10
        assert calls(rig) == 1


async def test_a_url_without_an_expiry_is_kept_for_the_configured_time(tmp_path: Path) -> None:
    body = '{"created":1,"data":[{"url":"https://images.example.com/apple.png?sig=abc"}]}'
    async with running_rig(tmp_path, CACHE_URL_TTL_SECONDS="0.5") as rig:
        rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=body)
        key = await rig.key()
        assert status(await rig.generate(key)) == STORED
        assert status(await rig.generate(key)) == HIT
        await asyncio.sleep(0.6)
        assert status(await rig.generate(key)) == STORED
