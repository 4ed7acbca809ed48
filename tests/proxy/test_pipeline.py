"""The path of a request over hostile parts: defects, upstreams that misbehave, drains that end.

All else is tested through HTTP: cache, flights, errors and limits.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core.errors import ResultExpired, StoreUnavailable, Unauthenticated
from gateway.core.key_format import parse
from gateway.core.upstream_errors import (
    RepeatedUnknown,
    UpstreamCut,
    UpstreamFailed,
    UpstreamUnknown,
)
from gateway.proxy.operation_name import key_id, record_of
from gateway.quota.operations import GONE, Operations
from gateway.quota.store import RecordChange
from gateway.upstream.port import Reply
from tests.support.directory import set_state
from tests.support.proxy_bench import ANSWER, Bench, running_bench
from tests.support.steps import key_in, until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as bench:
        yield bench


async def test_a_defect_after_the_call_is_charged_as_unknown_and_raised_to_all_who_wait(
    bench: Bench,
) -> None:
    async def fail(body: bytes) -> Reply:
        await asyncio.sleep(0.05)
        raise ZeroDivisionError

    async def succeed(body: bytes) -> Reply:
        return Reply(200, {}, ANSWER)

    bench.upstream.answer = fail
    ends = await asyncio.gather(*(bench.generate() for _ in range(5)), return_exceptions=True)
    assert {type(end) for end in ends} == {ZeroDivisionError}
    bench.upstream.answer = succeed
    with pytest.raises(RepeatedUnknown):
        await bench.generate()
    response, record = await bench.generate("pear")
    assert (response.body, record.outcome) == (ANSWER, "miss")
    account = await bench.account()
    assert (account.day.images, account.holds) == (2, {})


async def test_a_key_that_ends_while_its_request_waits_buys_nothing_and_fails_nobody_else(
    bench: Bench, tmp_path: Path
) -> None:
    async def succeed(body: bytes) -> Reply:
        return Reply(200, {}, ANSWER)

    bench.upstream.answer = succeed
    other, body_comes = await key_in(tmp_path), asyncio.Event()
    leading = asyncio.create_task(bench.generate(body_comes=body_comes))
    following = asyncio.create_task(bench.generate(key=other, body_comes=body_comes))
    await asyncio.sleep(0.1)  # both are authenticated
    await set_state(bench.store.directory, parse(bench.key) or "", "revoked")
    await bench.proxy.directory.refresh()
    body_comes.set()
    with pytest.raises(Unauthenticated):
        await leading
    _, record = await following
    assert record.outcome == "miss"
    account = await bench.account()
    assert (account.day.images, account.holds) == (1, {})


# -- drains -------------------------------------------------------------------------------------


async def test_a_drain_that_ends_while_an_outcome_is_written_delivers_it(
    bench: Bench, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:

        async def lock(body: bytes) -> Reply:
            other.execute("BEGIN IMMEDIATE")
            return Reply(200, {}, ANSWER)

        bench.upstream.answer = lock
        generating = asyncio.create_task(bench.generate())
        await asyncio.sleep(0.3)
        bench.proxy.draining = True
        await bench.proxy.flights.drain(0.1)
        response, record = await asyncio.wait_for(generating, 0.5)
        assert (response.body, record.outcome) == (ANSWER, "miss")
        other.execute("ROLLBACK")
    account = await bench.account()
    assert (account.day.images, account.holds) == (1, {})


async def test_a_drain_that_ends_during_the_call_is_a_cut(bench: Bench) -> None:
    async def hang(body: bytes) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    bench.upstream.answer = hang
    generating = asyncio.create_task(bench.generate())
    await asyncio.sleep(0.1)
    await bench.proxy.flights.drain(0.1)
    with pytest.raises(UpstreamCut):
        await generating
    account = await bench.account()
    assert (account.day.images, account.holds) == (1, {})


# -- purchases without their clients ------------------------------------------------------------


async def test_a_purchase_whose_client_left_is_reported_at_its_end(bench: Bench) -> None:
    async def answer_slowly(body: bytes) -> Reply:
        await asyncio.sleep(0.2)
        if b"broken" in body:
            raise ValueError
        return Reply(200, {}, ANSWER)

    bench.upstream.answer = answer_slowly
    for prompt in ("apple", "broken"):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bench.generate(prompt), 0.1)
    await bench.generate("awaited")
    assert (await bench.account()).day.images == 3
    (whole, no_failure), (broken, failure) = bench.late.ended
    assert (whole.outcome, whole.images, whole.cost) == ("miss", 1, 6_000)
    assert no_failure is None
    assert broken.cost == 211_000
    assert isinstance(failure, ValueError)


async def test_a_failure_after_its_client_left_has_its_cause(bench: Bench) -> None:
    async def fail_slowly(body: bytes) -> Reply:
        await asyncio.sleep(0.2)
        raise UpstreamFailed(retry=False, upstream_status=418, reason="No red teapots here.")

    bench.upstream.answer = fail_slowly
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.generate("red teapots"), 0.1)
    await bench.proxy.flights.drain(5)
    ((record, _),) = bench.late.ended
    assert (record.outcome, record.upstream_status) == ("upstream_failed", 418)
    assert record.reason == "No [redacted] here."


async def test_the_store_keeps_a_failure_without_the_texts_of_its_request(
    bench: Bench, tmp_path: Path
) -> None:
    async def fail(body: bytes) -> Reply:
        raise UpstreamUnknown(upstream_status=504, reason="No <secret teapots> here.")

    bench.upstream.answer = fail
    with pytest.raises(UpstreamUnknown, match="<secret teapots>"):
        await bench.generate("secret teapots")
    assert (await bench.account()).day.images == 1
    kept = b"".join((tmp_path / name).read_bytes() for name in ("gateway.db", "gateway.db-wal"))
    assert b"No <[redacted]> here." in kept
    assert b"secret t" not in kept


async def answer_at_once(body: bytes) -> Reply:
    return Reply(200, {}, ANSWER)


async def test_a_cache_hit_under_a_name_needs_no_store_and_a_purchase_does(bench: Bench) -> None:
    bench.upstream.answer = answer_at_once
    await bench.generate("apple")
    bench.faults.leave()
    hit, record = await bench.generate("apple", name="n")
    assert (hit.body, record.outcome) == (ANSWER, "hit")
    with pytest.raises(StoreUnavailable):
        await bench.generate("pear", name="n")
    bench.faults.come_back()
    await bench.generate("pear", name="n")  # the name was not noted
    assert (await bench.account()).day.images == 2


async def test_a_purchase_under_a_name_that_outlives_its_client_is_reported_once(
    bench: Bench,
) -> None:
    answers = asyncio.Event()

    async def answer(body: bytes) -> Reply:
        await answers.wait()
        return Reply(200, {}, ANSWER)

    bench.upstream.answer = answer
    asking = asyncio.create_task(bench.generate(name="n"))
    await until(lambda: len(bench.proxy.named.flights) == 1)
    await asyncio.sleep(0.1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    answers.set()
    await until(lambda: not bench.proxy.named.flights)
    ((record, failure),) = bench.late.ended
    assert (record.outcome, record.images, failure) == ("miss", 1, None)
    again, record = await bench.generate(name="n")
    assert (again.body, record.outcome, record.cost) == (ANSWER, "hit", 0)


async def test_a_defect_under_a_name_is_charged_and_not_tried_again(bench: Bench) -> None:
    async def fail(body: bytes) -> Reply:
        raise ZeroDivisionError

    bench.upstream.answer = fail
    with pytest.raises(ZeroDivisionError):
        await bench.generate(name="n")
    with pytest.raises(RepeatedUnknown) as refused:
        await bench.generate(name="n")
    assert (refused.value.status, refused.value.code) == (500, "internal_error")
    assert (await bench.account()).day.images == 1


async def test_a_name_that_another_gateway_took_meanwhile_is_not_bought(bench: Bench) -> None:
    """This one stands still between its claim and its reservation."""
    bench.faults.seconds = 0.3
    asking = asyncio.create_task(bench.generate(name="n"))
    record, accounts = record_of(key_id("n"), "team"), bench.store.accounts

    async def is_claimed() -> bool:
        return bool((await accounts.load((), [record])).records[0][0].all)

    await until(is_claimed)
    ((found, stamp),) = (await accounts.load((), [record])).records
    (mine,) = found.all
    other = replace(mine, id="other", gateway="there", state="bought", ended=mine.at, answer=GONE)
    assert await accounts.swap([], [], [RecordChange(record, stamp, Operations((other,)))])
    with pytest.raises(ResultExpired):
        await asking
    assert (await bench.account()).day.images == 0
