"""Purchases whose client left, or whose outcome is unknown: equal requests do not buy them again.

At one gateway, and at two over Redis without a shared cache.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from gateway.core.model import Team
from gateway.upstream.sandbox import UpstreamFault
from tests.support.directory import put_teams
from tests.support.replicas import Gateways, running_gateways
from tests.support.rig import FLAT, Got, Rig, running_rig
from tests.support.steps import drawing, metric, until

at_one_and_at_two = pytest.mark.parametrize("count", [1, 2])

RETRY = {"x-stainless-retry-count": "1"}
NEW, SECRET = {"Cache-Control": "no-cache"}, {"Cache-Control": "no-store"}


async def leave(rig: Rig, key: str, drawn: int, headers: Mapping[str, str] | None = None) -> None:
    """Ask, and hang up once the call is upstream. So many calls have been there before."""
    asking = asyncio.create_task(rig.generate(key, headers=headers))
    await until(lambda: rig.sandbox.counts.asked > drawn)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    # Until the gateway has written it.
    await until(lambda: rig.gateway.proxy.ledger.unwritten == 0)
    await asyncio.sleep(0.1)


def shared(got: Got) -> bool:
    """Whether the answer came from another purchase, and cost nothing."""
    headers = got.headers
    return (
        got.status == 200
        and headers["Cache-Status"].endswith("; collapsed")
        and headers["x-gateway-cost-usd"] == "0"
    )


@pytest.mark.parametrize(
    ("count", "cached", "ended"),
    [
        (1, False, False),
        (1, False, True),
        (1, True, True),
        (2, False, False),
        (2, True, True),
        pytest.param(1, True, False, marks=pytest.mark.exhaustive),
        pytest.param(2, False, True, marks=pytest.mark.exhaustive),
        pytest.param(2, True, False, marks=pytest.mark.exhaustive),
    ],
)
async def test_the_next_equal_request_takes_over_what_a_client_left(
    tmp_path: Path, count: int, cached: bool, ended: bool
) -> None:
    own = {"CACHE_URL": ""} if count > 1 else {}
    async with running_gateways(tmp_path, count, drawing(latency=0.5), **own) as gateways:
        key = await gateways.key(cache=cached)
        await leave(gateways.rigs[0], key, 0)
        if ended:
            await until(lambda: gateways.sandbox.counts.in_flight == 0)
            await asyncio.sleep(0.2)
        got = await gateways.rigs[-1].generate(key)
        assert shared(got) or got.headers["Cache-Status"] == "gateway; hit"
        assert gateways.sandbox.counts.calls == 1
        await gateways.rigs[0].assert_books(1)
        # Without a cache it was handed out once: the next request is a purchase.
        await until(lambda: gateways.rigs[-1].gateway.proxy.ledger.unwritten == 0)
        await gateways.rigs[0].generate(key)
        assert gateways.sandbox.counts.calls == (1 if cached else 2)


@pytest.mark.parametrize(
    ("count", "headers"),
    [
        (1, NEW),
        (1, SECRET),
        (2, SECRET),
        pytest.param(1, {}, marks=pytest.mark.exhaustive),
        pytest.param(2, {}, marks=pytest.mark.exhaustive),
        pytest.param(2, NEW, marks=pytest.mark.exhaustive),
    ],
)
async def test_an_sdks_retry_takes_over_its_first_attempt(
    tmp_path: Path, count: int, headers: dict[str, str]
) -> None:
    async with running_gateways(tmp_path, count, drawing(latency=0.6)) as gateways:
        key = await gateways.key(cache=False)
        await leave(gateways.rigs[0], key, 0, headers)
        got = await gateways.rigs[-1].generate(key, headers={**headers, **RETRY})
        assert shared(got)
        assert gateways.sandbox.counts.calls == 1
        await gateways.rigs[0].assert_books(1)


@at_one_and_at_two
async def test_an_sdks_retry_joins_a_running_call_whose_client_seems_to_wait(
    tmp_path: Path, count: int
) -> None:
    """A load balancer may not pass a hang-up on."""
    async with running_gateways(tmp_path, count, drawing(latency=0.6)) as gateways:
        key = await gateways.key(cache=False)
        first = asyncio.create_task(gateways.rigs[0].generate(key))
        await until(lambda: gateways.sandbox.counts.asked == 1)
        second = await gateways.rigs[-1].generate(key, headers=RETRY)
        assert shared(second)
        assert (await first).body == second.body
        assert gateways.sandbox.counts.calls == 1
        await gateways.rigs[0].assert_books(1)


async def test_a_request_for_a_new_image_takes_over_only_its_like(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.5)) as rig:
        key = await rig.key(cache=False)
        await leave(rig, key, 0)
        assert not shared(await rig.generate(key, headers=NEW))
        await leave(rig, key, 2, NEW)
        assert shared(await rig.generate(key, headers=NEW))
        assert shared(await rig.generate(key))  # the first one still waits
        assert rig.sandbox.counts.calls == 3
        await rig.assert_books(3)


async def test_who_takes_over_and_leaves_gives_it_back(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=1.0)) as rig:
        key = await rig.key(cache=False)
        await leave(rig, key, 0)
        taking_over = asyncio.create_task(rig.generate(key, headers=RETRY))
        await asyncio.sleep(0.2)
        taking_over.cancel()
        await asyncio.sleep(0.2)
        assert shared(await rig.generate(key, headers=RETRY))
        assert rig.sandbox.counts.calls == 1
        await rig.assert_books(1)


async def test_an_answer_that_a_client_stops_reading_is_kept_for_its_retry(tmp_path: Path) -> None:
    """The client hangs up in the middle of 12 MB."""
    picture = {"created": 1, "data": [{"b64_json": "A" * 12_000_000}]}
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=json.dumps(picture))
        key = await rig.key(cache=False)
        url, body = f"{rig.url}/v1/images/generations", {"prompt": "apple"}
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession() as session:
            response = await session.post(url, json=body, headers=headers)
            await response.content.read(1000)
            response.close()
        await asyncio.sleep(0.3)
        assert shared(await rig.generate(key, "apple", headers=RETRY))
        assert rig.sandbox.counts.calls == 1
        await rig.assert_books(1)


async def test_twenty_at_once_without_a_cache_are_twenty_purchases(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.3)) as rig:
        key = await rig.key(cache=False)
        answers = await asyncio.gather(*(rig.generate(key) for _ in range(20)))
        assert {got.headers["x-gateway-cost-usd"] for got in answers} == {"0.04"}
        assert rig.sandbox.counts.calls == 20
        await rig.assert_books(20)


async def test_another_key_or_body_takes_nothing_over(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.6)) as rig:
        key = await rig.key(cache=False)
        other = await rig.further_key("team")
        await leave(rig, key, 0)
        elsewhere = rig.generate(other, headers=RETRY), rig.generate(key, user="x", headers=RETRY)
        assert not any(map(shared, await asyncio.gather(*elsewhere)))
        assert rig.sandbox.counts.calls == 3


async def test_who_waits_gets_the_answer_of_a_gateway_that_stops(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=1.5)) as gateways:
        buyer, other = gateways.rigs
        key = await gateways.key(cache=False)
        await leave(buyer, key, 0)
        retry = asyncio.create_task(other.generate(key))
        await asyncio.sleep(0.5)
        await buyer.gateway.stop()
        assert shared(await retry)
        assert gateways.sandbox.counts.calls == 1
        await other.assert_books(1)


async def test_a_retry_finds_the_answer_that_a_vanished_client_does_not_read(
    tmp_path: Path,
) -> None:
    picture = {"created": 1, "data": [{"b64_json": "A" * 12_000_000}]}
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=json.dumps(picture))
        key = await rig.key(cache=False)
        url, body = f"{rig.url}/v1/images/generations", {"prompt": "apple"}
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(read_bufsize=1024) as session:
            response = await session.post(url, json=body, headers=headers)
            assert shared(await rig.generate(key, "apple", headers=RETRY))
            response.close()
        assert rig.sandbox.counts.calls == 1
        await rig.assert_books(1)


async def test_an_answer_is_not_handed_out_once_its_url_has_expired(tmp_path: Path) -> None:
    url = f"https://images.example/a.png?Expires={int(time.time()) - 60}"
    answer = json.dumps({"created": 1, "data": [{"url": url}]})
    async with running_rig(tmp_path, FLAT, drawing(latency=0.2)) as rig:
        rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=answer, times=1)
        key = await rig.key(cache=False)
        await leave(rig, key, 0)
        await until(lambda: rig.sandbox.counts.in_flight == 0)
        await asyncio.sleep(0.2)
        assert not shared(await rig.generate(key))
        assert rig.sandbox.counts.calls == 2


# -- unknown outcomes ---------------------------------------------------------------------------


async def fail_once(gateways: Gateways, key: str, headers: Mapping[str, str] | None = None) -> Got:
    gateways.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=1)
    got = await gateways.rigs[0].generate(key, headers=headers)
    assert got.error == (502, "upstream_error", "upstream_cut")
    return got


@pytest.mark.parametrize(
    ("count", "cached"),
    [
        (1, True),
        (2, False),
        pytest.param(1, False, marks=pytest.mark.exhaustive),
        pytest.param(2, True, marks=pytest.mark.exhaustive),
    ],
)
async def test_a_repeat_of_an_unknown_outcome_is_not_bought(
    tmp_path: Path, count: int, cached: bool
) -> None:
    async with running_gateways(tmp_path, count, drawing()) as gateways:
        key = await gateways.key(cache=cached)
        first = await fail_once(gateways, key)
        rig = gateways.rigs[-1]
        for headers in ({}, RETRY):
            got = await rig.generate(key, headers=headers)
            assert got.error == first.error
            assert got.headers["x-should-retry"] == "false"
            assert "Retry-After" not in got.headers
            assert first.headers["X-Request-Id"] in got.json["error"]["message"]
        assert gateways.sandbox.counts.asked == 1
        await rig.assert_books(1)
        assert await metric(rig, "gateway_requests_total", outcome="repeated_unknown") == 2
        # Another wish, and a request for a new image.
        assert (await rig.generate(key, "another")).status == 200
        assert (await rig.generate(key, headers=NEW)).status == 200
        assert (await rig.generate(key)).status == 200  # that success cleared it
        assert gateways.sandbox.counts.asked == (3 if cached else 4)


async def test_a_failed_request_for_a_new_image_is_repeated_by_its_like(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 1, drawing()) as gateways:
        key = await gateways.key()
        first = await fail_once(gateways, key, NEW)
        got = await gateways.rigs[0].generate(key, headers=NEW)
        assert got.error == first.error
        assert "for example its field 'user'" in got.json["error"]["message"]
        assert gateways.sandbox.counts.asked == 1


@pytest.mark.parametrize("team", [True, False], ids=["team", "upstream"])
async def test_an_operator_can_shorten_the_time_or_switch_it_off(
    tmp_path: Path, team: bool
) -> None:
    environ = {} if team else {"UPSTREAM_UNKNOWN_HOLD_SECONDS": "0"}
    async with running_rig(tmp_path, FLAT, drawing(), **environ) as rig:
        key = await rig.key()
        if team:
            own = [Team(name="team", unknown_hold_seconds=0.0)]
            await put_teams(rig.store.directory, own)
            await rig.gateway.directory.refresh()
        rig.sandbox.fault = UpstreamFault(kind="cut_in_body", times=1)
        assert (await rig.generate(key)).status == 502
        assert (await rig.generate(key)).status == 200
        await rig.assert_books(2)


async def test_requests_that_were_running_already_are_no_repeats(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.3)) as rig:
        key = await rig.key(cache=False)
        rig.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=3)
        answers = await asyncio.gather(*(rig.generate(key) for _ in range(3)))
        assert {got.status for got in answers} == {502}
        assert rig.sandbox.counts.asked == 3
        assert (await rig.generate(key)).status == 502
        assert rig.sandbox.counts.asked == 3
