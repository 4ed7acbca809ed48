"""The promise of an `Idempotency-Key`: one answer, and at most one purchase, for a day.

At one gateway, at two over Redis without a shared cache, and with a gateway that is killed.
"""

import asyncio
import json
import secrets
from pathlib import Path

import pytest

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.replicas import Gateways, running_gateways, running_replicas
from tests.support.rig import FLAT, Got, running_rig
from tests.support.steps import drawing, metric, until

NEW = {"Cache-Control": "no-cache"}
APART = {"CACHE_URL": "", "IMAGES_ENABLED": "false"}
"""Gateways that do not find each other's answers."""


def under(key: str, **headers: str) -> dict[str, str]:
    return {"Idempotency-Key": key, **headers}


def another_picture() -> UpstreamFault:
    """An answer that the sandbox does not draw: its own for a prompt are equal."""
    answer = json.dumps({"created": 1, "data": [{"b64_json": "aGk="}]})
    return UpstreamFault(kind="status", status=200, body=answer, times=1)


@pytest.mark.parametrize(
    ("count", "cached"),
    [(1, True), (2, False), pytest.param(1, False, marks=pytest.mark.exhaustive)],
)
async def test_one_key_and_body_is_one_answer_whoever_of_the_team_asks(
    tmp_path: Path, count: int, cached: bool
) -> None:
    async with running_gateways(tmp_path, count, drawing(), **APART) as gateways:
        key = await gateways.key(cache=cached)
        first = await gateways.rigs[0].generate(key, headers=under("k"))
        assert first.headers["x-gateway-cost-usd"] == "0.04"
        other = await gateways.rigs[0].further_key("team")
        for rig in gateways.rigs:
            await rig.gateway.directory.refresh()
            for who, headers in ((key, {}), (other, NEW)):
                got = await rig.generate(who, headers=under("k", **headers))
                assert (got.status, got.body) == (200, first.body)
                assert got.headers["Cache-Status"] == "gateway; hit"
                assert got.headers["x-gateway-cost-usd"] == "0"
        assert gateways.sandbox.counts.calls == 1
        # Another key is another wish, and another team's keys are others.
        await gateways.rigs[-1].generate(key, headers=under("l", **NEW))
        blue = await gateways.key(team="blue")
        await gateways.rigs[-1].generate(blue, headers=under("k"))
        assert gateways.sandbox.counts.calls == 3
        await gateways.rigs[0].assert_books(2)


async def test_another_body_is_refused(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        await rig.generate(key, "apple", headers=under("k"))
        for fields in ({"prompt": "pear"}, {"prompt": "apple", "user": "me"}):
            got = await rig.generate(key, headers=under("k"), **fields)
            assert got.error == (422, "invalid_request_error", "idempotency_key_reused")
            assert got.headers["x-should-retry"] == "false"
        # The form of the pictures is no part of it.
        got = await rig.generate(key, "apple", headers=under("k"), response_format="b64_json")
        assert got.status == 200
        assert rig.sandbox.counts.calls == 1


async def test_a_key_that_is_first_answered_from_the_cache_is_bound_as_well(
    tmp_path: Path,
) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        first = await rig.generate(key, "apple")
        assert (await rig.generate(key, "apple", headers=under("k"))).body == first.body
        got = await rig.generate(key, "pear", headers=under("k"))
        assert got.error[2] == "idempotency_key_reused"
        # A newer answer in the cache is not the answer of this key.
        rig.sandbox.fault = another_picture()
        newer = await rig.generate(key, "apple", headers=NEW)
        assert newer.body != first.body
        got = await rig.generate(key, "apple", headers=under("k"))
        assert got.error == (410, "invalid_request_error", "result_expired")
        assert (await rig.generate(key, "apple", headers=under("l"))).body == newer.body
        assert rig.sandbox.counts.calls == 2
        await rig.assert_books(2)


async def test_the_answer_of_a_purchase_outlives_newer_ones_in_the_cache(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        first = await rig.generate(key, "apple", headers=under("k"))
        rig.sandbox.fault = another_picture()
        assert (await rig.generate(key, "apple", headers=NEW)).body != first.body
        assert (await rig.generate(key, "apple", headers=under("k"))).body == first.body


@pytest.mark.parametrize(("count", "cached"), [(1, True), (1, False), (2, False)])
async def test_a_running_request_is_joined(tmp_path: Path, count: int, cached: bool) -> None:
    async with running_gateways(tmp_path, count, drawing(latency=0.6), **APART) as gateways:
        key = await gateways.key(cache=cached)
        first = asyncio.create_task(gateways.rigs[0].generate(key, headers=under("k")))
        await until(lambda: gateways.sandbox.counts.asked == 1)
        others = await asyncio.gather(
            *(rig.generate(key, headers=under("k", **NEW)) for rig in gateways.rigs * 2)
        )
        reused = await gateways.rigs[-1].generate(key, "pear", headers=under("k"))
        assert {got.body for got in others} == {(await first).body}
        assert reused.status == 422
        assert gateways.sandbox.counts.calls == 1
        await gateways.rigs[0].assert_books(1)


@pytest.mark.parametrize("count", [1, 2])
async def test_who_hangs_up_finds_the_answer_under_the_key(tmp_path: Path, count: int) -> None:
    async with running_gateways(tmp_path, count, drawing(latency=0.5), **APART) as gateways:
        key = await gateways.key(cache=False)
        asking = asyncio.create_task(gateways.rigs[0].generate(key, headers=under("k")))
        await until(lambda: gateways.sandbox.counts.asked == 1)
        asking.cancel()
        got = [await gateways.rigs[-1].generate(key, headers=under("k")) for _ in range(2)]
        assert got[0].status == 200
        assert got[0].body == got[1].body
        assert gateways.sandbox.counts.calls == 1
        await gateways.rigs[0].assert_books(1)


async def test_equal_requests_of_several_keys_share_one_purchase_in_flight(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.4)) as rig:
        key = await rig.key()
        asking = [rig.generate(key, headers=under(f"k{number}")) for number in range(5)]
        bodies = {got.body for got in await asyncio.gather(*asking, rig.generate(key))}
        assert len(bodies) == 1
        again = [await rig.generate(key, headers=under(f"k{number}", **NEW)) for number in range(5)]
        assert {got.body for got in again} == bodies
        assert rig.sandbox.counts.calls == 1
        await rig.assert_books(1)


async def test_a_definite_failure_is_forgotten(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        refusal = UpstreamFault(kind="status", status=400, body="{}", times=1)
        for fault in (refusal, UpstreamFault(kind="status", status=500, body="{}", times=1)):
            rig.sandbox.fault = fault
            assert (await rig.generate(key, "apple", headers=under("k"))).status in (400, 502)
        assert (await rig.generate(key, "pear", headers=under("k"))).status == 200
        used_up = await rig.key("blue", limits=Limits(images_per_day=0))
        assert (await rig.generate(used_up, headers=under("k"))).status == 429
        raised = await rig.key("blue")
        assert (await rig.generate(raised, headers=under("k"))).status == 200


async def fail(gateways: Gateways, key: str) -> Got:
    gateways.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=1)
    got = await gateways.rigs[0].generate(key, headers=under("k"))
    assert got.error == (502, "upstream_error", "upstream_cut")
    return got


@pytest.mark.parametrize("count", [1, 2])
async def test_an_unknown_outcome_is_an_answer_too(tmp_path: Path, count: int) -> None:
    environ = {"UPSTREAM_UNKNOWN_HOLD_SECONDS": "0"}
    async with running_gateways(tmp_path, count, drawing(), **environ) as gateways:
        key = await gateways.key()
        first = await fail(gateways, key)
        rig = gateways.rigs[-1]
        for headers in ({}, NEW, {"x-stainless-retry-count": "1"}):
            got = await rig.generate(key, headers=under("k", **headers))
            assert got.error == first.error
            assert got.headers["x-should-retry"] == "false"
            assert first.headers["X-Request-Id"] in got.json["error"]["message"]
        assert gateways.sandbox.counts.asked == 1
        # A success without the key changes nothing, not even from the cache.
        assert (await rig.generate(key)).status == 200
        assert (await rig.generate(key, headers=under("k"))).error == first.error
        assert (await rig.generate(key, headers=under("l", **NEW))).status == 200
        assert gateways.sandbox.counts.asked == 3
        await rig.assert_books(3)
        assert await metric(rig, "gateway_requests_total", outcome="repeated_unknown") == 4


async def test_a_new_key_is_a_new_wish_while_repeats_are_refused(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        rig.sandbox.fault = UpstreamFault(kind="cut_in_body", times=1)
        assert (await rig.generate(key, "apple")).status == 502
        assert (await rig.generate(key, "apple")).status == 502
        assert (await rig.generate(key, "apple", headers=under("k"))).status == 200
        await rig.assert_books(2)


async def test_who_joins_a_purchase_of_unknown_outcome_has_that_answer(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.3)) as rig:
        key = await rig.key()
        rig.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=1)
        first = asyncio.create_task(rig.generate(key))
        await until(lambda: rig.sandbox.counts.asked == 1)
        joined = await rig.generate(key, headers=under("k"))
        assert joined.error == (await first).error == (502, "upstream_error", "upstream_cut")
        again = await rig.generate(key, headers=under("k", **NEW))
        assert again.error == joined.error
        assert rig.sandbox.counts.asked == 1
        await rig.assert_books(1)


async def test_an_answer_that_is_gone_is_not_bought_again(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(), IMAGES_ENABLED="false") as rig:
        key = await rig.key()
        await rig.generate(key, headers=under("k"))
        await rig.gateway.cache.memory.clear()
        got = await rig.generate(key, headers=under("k"))
        assert got.error == (410, "invalid_request_error", "result_expired")
        assert got.headers["x-should-retry"] == "false"
        assert (await rig.usage()).requests_refused == 0
        assert rig.sandbox.counts.calls == 1


@pytest.mark.parametrize("team", ["team", ""])
async def test_a_purge_concerns_answers_under_a_key_as_well(tmp_path: Path, team: str) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        await rig.generate(key, "apple", headers=under("k"))
        await rig.generate(key, "apple", headers=under("l"))  # refers to the cached answer
        purged = await rig.ask_admin(
            "POST", "cache/purge", json={"team": team} if team else {"all": True}
        )
        assert purged.status == 200
        await rig.gateway.directory.refresh()
        for name in ("k", "l"):
            got = await rig.generate(key, "apple", headers=under(name))
            assert got.error[2] == "result_expired"
        assert rig.sandbox.counts.calls == 1


async def test_the_answer_outlives_a_restart(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key(cache=False)
        first = await rig.generate(key, headers=under("k"))
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        got = await rig.generate(key, headers=under("k"))
        assert (got.status, got.body) == (200, first.body)
        assert rig.sandbox.counts.calls == 0


async def test_a_key_of_a_killed_gateway_is_never_bought_again(tmp_path: Path) -> None:
    """Its purchase may have been made. Nobody waits for the end of its reservation's lease."""
    slow = drawing(latency=30)
    async with running_replicas(tmp_path, sandbox=slow, shifts=(0.0, 0.0)) as replicas:
        key = await replicas.key()
        dying, other = replicas.gateways
        asking = asyncio.create_task(dying.generate(key, "apple", headers=under("k")))
        await until(lambda: replicas.sandbox.counts.asked == 1)
        joined = asyncio.create_task(other.generate(key, "apple", headers=under("k")))
        await asyncio.sleep(0.2)
        await replicas.kill(dying)
        await asyncio.gather(asking, return_exceptions=True)
        for got in (await joined, await other.generate(key, "apple", headers=under("k"))):
            assert got.error == (502, "upstream_error", "upstream_unknown")
        assert replicas.sandbox.counts.asked == 1


@pytest.mark.parametrize("value", ["", " ", "k" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        got = await rig.generate(await rig.key(), headers=under(value))
        assert got.error == (400, "invalid_request_error", "invalid_idempotency_key")
        assert got.json["error"]["param"] is None
        assert rig.sandbox.counts.asked == 0


async def test_the_longest_key_works_and_appears_nowhere(tmp_path: Path) -> None:
    value = secrets.token_hex(127) + "x"
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        assert (await rig.generate(key, headers=under(value))).status == 200
        assert (await rig.generate(key, headers=under(value))).status == 200
        assert rig.sandbox.counts.calls == 1
    assert not any(value.encode() in file.read_bytes() for file in files(tmp_path))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_only_if_cached_names_nothing(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        only = under("k", **{"Cache-Control": "only-if-cached"})
        assert (await rig.generate(key, headers=only)).status == 504
        assert (await rig.generate(key, "pear", headers=under("k"))).status == 200
