"""A store that is killed, frozen, emptied, full or locked: nothing is sold on a guess or lost."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import pytest

from gateway.core.model import Limits
from tests.support.replicas import Replicas, StoreKind, running_replicas
from tests.support.rig import FLAT, PROMPT, Got
from tests.support.steps import AWAY, USED_UP, drawing, tally, until

REFUSED_SECONDS = 2.0
"""After which a request is refused if the store does not answer."""

SLACK_SECONDS = 6.0
"""What a busy machine may take on top."""

KEPT = {"appendonly": "yes"}
"""The Redis finds everything again after a restart."""


async def buy_for_all_memories(replicas: Replicas, key: str) -> None:
    """Have one picture in the memory of every gateway, and slow down later calls."""
    for gateway in replicas.gateways:
        assert (await gateway.generate(key, PROMPT)).status == 200
    replicas.sandbox.settings.latency = 2


async def assert_hits(replicas: Replicas, key: str) -> None:
    """Every gateway answers from its memory."""
    hits = [await gateway.generate(key, PROMPT) for gateway in replicas.gateways]
    assert {got.headers.get("Cache-Status") for got in hits} == {"gateway; hit"}


async def timed(replicas: Replicas, key: str) -> tuple[float, Got]:
    """An answer, and how many seconds it took."""
    started = time.monotonic()
    got = await replicas.generate(key)
    return time.monotonic() - started, got


# -- killed, full, locked -----------------------------------------------------------------------


@asynccontextmanager
async def killed(replicas: Replicas, folder: Path) -> AsyncIterator[None]:
    await replicas.redis.kill()
    yield
    await replicas.redis.start()


@asynccontextmanager
async def full(replicas: Replicas, folder: Path) -> AsyncIterator[None]:
    async with replicas.redis.client() as client:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used // 2)
        yield
        await client.config_set("maxmemory", 0)


@asynccontextmanager
async def locked(replicas: Replicas, folder: Path) -> AsyncIterator[None]:
    with closing(sqlite3.connect(folder / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("store", "outage"), [("redis", killed), ("redis", full), ("sqlite", locked)]
)
async def test_during_an_outage_nothing_is_sold_and_what_was_bought_arrives(
    tmp_path: Path,
    store: StoreKind,
    outage: Callable[[Replicas, Path], AbstractAsyncContextManager[None]],
) -> None:
    async with running_replicas(tmp_path, FLAT, store=store, redis=KEPT) as replicas:
        key = await replicas.key(limits=Limits(images_per_day=100))
        await buy_for_all_memories(replicas, key)
        bought = replicas.sandbox.counts.asked + 40
        under_way = replicas.buying(key, 40)
        await until(lambda: replicas.sandbox.counts.asked == bought)
        async with outage(replicas, tmp_path):
            refused = await asyncio.gather(*(timed(replicas, key) for _ in range(40)))
            assert tally(got for _, got in refused) == {AWAY: 40}
            assert max(seconds for seconds, _ in refused) < REFUSED_SECONDS + SLACK_SECONDS
            await assert_hits(replicas, key)
            assert tally(await asyncio.gather(*under_way)) == {200: 40}
            assert replicas.sandbox.counts.asked == bought
        await until(replicas.is_closed, REFUSED_SECONDS + SLACK_SECONDS)
        await replicas.assert_books(bought)
        replicas.sandbox.settings.latency = 0
        got = await asyncio.gather(*replicas.buying(key, 104 - bought))
        assert tally(got) == {200: 100 - bought, USED_UP: 4}
        await replicas.assert_books(100)


# -- frozen -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [4.0, pytest.param(10.0, marks=pytest.mark.exhaustive)])
async def test_frozen_under_50_requests_a_second(tmp_path: Path, seconds: float) -> None:
    async with running_replicas(tmp_path, FLAT, drawing(latency=0.2), redis=KEPT) as replicas:
        counts = replicas.sandbox.counts
        key = await replicas.key(limits=Limits(images_per_day=400))
        await buy_for_all_memories(replicas, key)
        replicas.sandbox.settings.latency = 0.2

        async def ask(number: int) -> tuple[float, Got]:
            await asyncio.sleep(number / 50)
            return await timed(replicas, key)

        # Fewer than the limit before and after the frost, so that nothing else refuses.
        asked = [asyncio.create_task(ask(each)) for each in range(int(50 * (seconds + 3)))]
        await asyncio.sleep(1.5)
        replicas.redis.freeze()
        try:
            await asyncio.sleep(1)  # calls that were admitted before arrive
            admitted = counts.asked
            await asyncio.sleep(seconds - 2)
            await assert_hits(replicas, key)
            assert counts.asked == admitted
        finally:
            replicas.redis.thaw()
        answers = await asyncio.gather(*asked)
        assert tally(got for _, got in answers).keys() == {200, AWAY}
        slowest = max(seconds for seconds, _ in answers)
        assert slowest < REFUSED_SECONDS + SLACK_SECONDS
        await until(replicas.is_closed)
        assert counts.asked > admitted
        await replicas.assert_books(counts.images_drawn)
        while tally(got := await asyncio.gather(*replicas.buying(key, 40)))[200]:
            assert tally(got).keys() <= {200, USED_UP}
        assert counts.images_drawn == 400
        await replicas.assert_books(400)


# -- emptied ------------------------------------------------------------------------------------


async def flush(replicas: Replicas) -> None:
    async with replicas.redis.client() as client:
        await client.flushall()


async def start_without_data(replicas: Replicas) -> None:
    await replicas.redis.kill()
    await replicas.redis.start()


@pytest.mark.parametrize("lose", [flush, start_without_data])
async def test_emptied_nothing_is_sold_until_an_operator_confirms(
    tmp_path: Path, lose: Callable[[Replicas], Awaitable[None]]
) -> None:
    async with running_replicas(tmp_path, FLAT) as replicas:
        key = await replicas.key(limits=Limits(images_per_day=100))
        await buy_for_all_memories(replicas, key)
        bought = replicas.sandbox.counts.asked + 20
        under_way = replicas.buying(key, 20)
        await until(lambda: replicas.sandbox.counts.asked == bought)
        await lose(replicas)
        for _ in range(3):
            got = await asyncio.gather(*replicas.buying(key, 20))
            assert tally(got) == {AWAY: 20}
        await assert_hits(replicas, key)
        assert tally(await asyncio.gather(*under_way)) == {200: 20}
        assert replicas.sandbox.counts.asked == bought
        for gateway in replicas.gateways:
            assert any("confirm-reset" in line.get("event", "") for line in gateway.lines())
        await replicas.operator("store", "confirm-reset")
        # Teams and keys are lost too: the operator creates them again. The purchases that were
        # under way are charged to them as soon as they can be written.
        teams = tmp_path / "teams.toml"
        teams.write_text("[teams.team.limits]\nimages_per_day = 40\n")
        await replicas.operator("teams", "apply", str(teams))
        new = await replicas.operator("keys", "create", "--team", "team")

        async def sell_again() -> bool:
            answers = [await gateway.models(new) for gateway in replicas.gateways]
            return {got.status for got in answers} == {200}

        await until(sell_again)
        assert {(await gateway.models(key)).status for gateway in replicas.gateways} == {401}

        async def charged() -> bool:
            return (await replicas.account("team")).day.images == 20

        await until(charged)
        got = await asyncio.gather(*replicas.buying(new, 30))
        assert tally(got) == {200: 20, USED_UP: 10}
