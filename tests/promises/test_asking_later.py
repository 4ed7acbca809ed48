"""The promise of `Prefer: respond-async`: 202 at once, and the answer or the failure for a day.

At one gateway, at two over Redis without a shared cache, and with a gateway that is killed.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.replicas import running_gateways, running_replicas
from tests.support.rig import FLAT, Client, Got, running_rig
from tests.support.steps import drawing, metric, until

LATER = {"Prefer": "respond-async"}
APART = {"CACHE_URL": "", "IMAGES_ENABLED": "false"}
"""Gateways that do not find each other's answers."""


async def ask(client: Client, key: str, prompt: str = "apple", **fields: Any) -> str:
    """Ask, and return where the answer will be."""
    headers = {**LATER, **fields.pop("headers", {})}
    got = await client.generate(key, prompt, headers=headers, **fields)
    assert got.status == 202, got.body
    assert got.headers["Preference-Applied"] == "respond-async"
    place = got.headers["Location"]
    assert got.json == {"id": place.rpartition("/")[2], "url": place, "status": "running"}
    return place


async def poll(client: Client, key: str, place: str) -> Got:
    """Ask for the answer until it is there."""
    while (got := await client.get(place, key)).status == 202:
        assert 1 <= int(got.headers["Retry-After"]) <= 5
        assert "Preference-Applied" not in got.headers
        await asyncio.sleep(0.05)
    return got


@pytest.mark.parametrize(
    ("count", "cached"),
    [(1, True), (2, False), pytest.param(1, False, marks=pytest.mark.exhaustive)],
)
async def test_the_answer_is_there_later_at_every_gateway_and_for_the_team_alone(
    tmp_path: Path, count: int, cached: bool
) -> None:
    async with running_gateways(tmp_path, count, drawing(latency=0.4), **APART) as gateways:
        rigs, key = gateways.rigs, await gateways.key(cache=cached)
        stranger = await gateways.key(team="blue")
        place = await ask(rigs[0], key)
        assert place.startswith("/v1/images/generations/")
        assert gateways.sandbox.counts.calls == 0
        assert (await rigs[-1].get(place, key)).status == 202
        for rig in reversed(rigs):
            got = await poll(rig, key, place)
            assert got.status == 200
            assert len(got.json["data"]) == 1
            assert (await rig.get(place, stranger)).error[2] == "operation_not_found"
            assert (await rig.get(f"/api{place}", key)).body == got.body
        assert gateways.sandbox.counts.calls == 1
        await rigs[0].assert_books(1)
        assert await metric(rigs[0], "gateway_requests_total", outcome="accepted") == 1
        assert await metric(rigs[-1], "gateway_requests_total", outcome="polled") >= 2


async def test_a_cache_hit_answers_at_once(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        first = await rig.generate(key, "apple")
        got = await rig.generate(key, "apple", headers=LATER)
        assert (got.status, got.body) == (200, first.body)
        assert got.headers["Cache-Status"] == "gateway; hit"


async def test_what_is_refused_before_the_reservation_is_refused_at_once(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key(limits=Limits(images_per_day=0))
        assert (await rig.generate(key, headers=LATER)).error[2] == "insufficient_quota"
        assert (await rig.generate(key, headers=LATER, n=0)).status == 400
        only = {**LATER, "Cache-Control": "only-if-cached"}
        assert (await rig.generate(key, headers=only)).status == 504
        await rig.assert_books(0)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_definite_failure_has_its_own_status(tmp_path: Path, count: int) -> None:
    refusal = {"message": "Your prompt: a red apple tree", "type": "t", "param": "p", "code": "c"}
    async with running_gateways(tmp_path, count, drawing(latency=0.2)) as gateways:
        buyer, other = gateways.rigs[0], gateways.rigs[-1]
        key = await gateways.key()
        body = json.dumps({"error": refusal})
        gateways.sandbox.fault = UpstreamFault(kind="status", status=400, body=body, times=1)
        place = await ask(buyer, key, "a red apple tree", headers={"Idempotency-Key": "k"})
        for _ in range(2):
            got = await poll(other, key, place)
            assert got.error == (400, "t", "c")
            assert got.json["error"]["param"] == "p"
            assert "apple" not in got.json["error"]["message"]  # the store keeps no prompt
            assert got.headers["x-should-retry"] == "false"
        gateways.sandbox.fault = UpstreamFault(kind="status", status=500, body="{}", times=1)
        failed = await poll(other, key, await ask(buyer, key))
        assert failed.error == (502, "upstream_error", "upstream_failed")
        await buyer.assert_books(0)
        # The failure is forgotten by requests, which buy under the same key.
        again = {"Idempotency-Key": "k"}
        assert await ask(other, key, "a red apple tree", headers=again) == place
        assert (await poll(buyer, key, place)).status == 200


@pytest.mark.parametrize("count", [1, 2])
async def test_an_unknown_outcome_stays_the_answer(tmp_path: Path, count: int) -> None:
    async with running_gateways(tmp_path, count, drawing()) as gateways:
        key, rig = await gateways.key(), gateways.rigs[-1]
        gateways.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=1)
        place = await ask(gateways.rigs[0], key)
        for _ in range(2):
            got = await poll(rig, key, place)
            assert got.error == (502, "upstream_error", "upstream_cut")
            assert got.headers["x-should-retry"] == "false"
        assert gateways.sandbox.counts.asked == 1
        await rig.assert_books(1)


@pytest.mark.parametrize("count", [1, 2])
async def test_requests_of_one_key_share_an_operation(tmp_path: Path, count: int) -> None:
    named = {"Idempotency-Key": "k"}
    async with running_gateways(tmp_path, count, drawing(latency=0.4)) as gateways:
        key, other = await gateways.key(cache=False), gateways.rigs[-1]
        waiting = asyncio.create_task(gateways.rigs[0].generate(key, "apple", headers=named))
        await until(lambda: gateways.sandbox.counts.asked == 1)
        place = await ask(other, key, headers=named)
        assert await ask(gateways.rigs[0], key, headers=named) == place
        got = await poll(other, key, place)
        assert got.body == (await waiting).body
        at_once = await other.generate(key, "apple", headers={**LATER, **named})
        assert (at_once.status, at_once.body) == (200, got.body)
        assert (await other.generate(key, "pear", headers={**LATER, **named})).status == 422
        assert gateways.sandbox.counts.calls == 1


async def test_who_asks_later_is_told_of_a_failure_that_began_with_another_request(
    tmp_path: Path,
) -> None:
    """The first request waits for its answer, so nothing was promised to it."""
    named = {"Idempotency-Key": "k"}
    async with running_rig(tmp_path, FLAT, drawing(latency=0.3)) as rig:
        key = await rig.key()
        rig.sandbox.fault = UpstreamFault(kind="status", status=500, body="{}", times=1)
        waiting = asyncio.create_task(rig.generate(key, "apple", headers=named))
        await until(lambda: rig.sandbox.counts.asked == 1)
        place = await ask(rig, key, headers=named)
        assert (await poll(rig, key, place)).error == (await waiting).error


async def test_equal_requests_in_flight_are_bought_once(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.4)) as rig:
        key = await rig.key()
        places = await asyncio.gather(*(ask(rig, key) for _ in range(4)))
        assert len(set(places)) == 4
        bodies = {(await poll(rig, key, place)).body for place in places}
        assert len(bodies) == 1
        assert rig.sandbox.counts.calls == 1
        await rig.assert_books(1)


async def test_promises_are_bounded_like_requests_in_flight(tmp_path: Path) -> None:
    """They hold no connection, and equal ones need no purchase of their own."""
    slow = drawing(latency=0.6)
    async with running_rig(tmp_path, FLAT, slow, SERVER_MAX_IN_FLIGHT="2") as rig:
        key = await rig.key()
        places = [await ask(rig, key) for _ in range(2)]
        refused = await rig.generate(key, "apple", headers=LATER)
        assert refused.error == (503, "server_error", "overloaded")
        for place in places:
            assert (await poll(rig, key, place)).status == 200
        assert rig.sandbox.counts.calls == 1


async def test_an_answer_that_is_gone_is_not_bought_again(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(), IMAGES_ENABLED="false") as rig:
        key = await rig.key()
        place = await ask(rig, key)
        assert (await poll(rig, key, place)).status == 200
        await rig.gateway.cache.memory.clear()
        got = await rig.get(place, key)
        assert got.error == (410, "invalid_request_error", "result_expired")
        assert rig.sandbox.counts.calls == 1


async def test_the_poll_has_the_form_that_its_request_asked_for(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key(deliver="b64_json")
        by_team = await poll(rig, key, await ask(rig, key))
        assert list(by_team.json["data"][0]) == ["b64_json"]
        place = await ask(rig, key, "pear", response_format="url")
        (picture,) = (await poll(rig, key, place)).json["data"]
        assert "b64_json" not in picture
        async with rig.session.get(picture["url"]) as shown:
            assert shown.status == 200


async def test_a_stop_delivers_what_was_promised(tmp_path: Path) -> None:
    """Without a shared cache it leaves its last answers, and who asks in time has them for good."""
    async with running_gateways(tmp_path, 2, drawing(latency=1.5), **APART) as gateways:
        buyer, other = gateways.rigs
        key, own = await gateways.key(), await gateways.key(team="own", cache=False)
        places = [(own, await ask(buyer, own, f"pear {number}")) for number in range(20)]
        places += [(key, await ask(buyer, key)) for _ in range(2)]  # which share one purchase
        requests = []
        for rig in (buyer, other):  # the first one has the names
            for who, name in ((own, "alone"), (key, "first"), (key, "second")):
                headers = {"Idempotency-Key": name}
                requests.append(asyncio.create_task(rig.generate(who, "fig", headers=headers)))
            await until(lambda: gateways.sandbox.counts.asked == 23)
            await asyncio.sleep(0.2)
        await buyer.gateway.stop()
        for _ in range(2):
            for who, place in places:
                assert (await poll(other, who, place)).status == 200
        answers = [await request for request in requests]
        assert [answer.status for answer in answers] == [200] * 6
        assert [answer.body for answer in answers[:3]] == [answer.body for answer in answers[3:]]
        await other.assert_books(2)
        await other.assert_books(21, team="own")


async def test_a_stop_leaves_the_answer_in_a_shared_cache(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=1.0)) as gateways:
        buyer, other = gateways.rigs
        key = await gateways.key(cache=False)
        place = await ask(buyer, key)
        await buyer.gateway.stop()
        assert (await poll(other, key, place)).status == 200
        await other.assert_books(1)


async def test_what_a_killed_gateway_had_promised_is_unknown_and_never_bought_again(
    tmp_path: Path,
) -> None:
    slow = drawing(latency=30)
    async with running_replicas(tmp_path, sandbox=slow, shifts=(0.0, 0.0)) as replicas:
        key = await replicas.key()
        dying, other = replicas.gateways
        place = await ask(dying, key, headers={"Idempotency-Key": "k"})
        await until(lambda: replicas.sandbox.counts.asked == 1)
        await replicas.kill(dying)
        assert (await other.get(place, key)).status == 202  # its lease has not ended yet
        for got in (
            await poll(other, key, place),
            await other.generate(key, "apple", headers={"Idempotency-Key": "k", **LATER}),
        ):
            assert got.error == (502, "upstream_error", "upstream_unknown")
        assert replicas.sandbox.counts.asked == 1


@pytest.mark.parametrize(
    "place", ["f" * 32, "f" * 65, "named", "..%2f", "%00"], ids=["new", "long", "word", "up", "nul"]
)
async def test_an_operation_that_is_none_is_not_found(tmp_path: Path, place: str) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        got = await rig.get(f"/v1/images/generations/{place}", await rig.key())
        assert got.status == 404
        assert (await rig.get(f"/v1/images/generations/{place}")).status in (401, 404)
