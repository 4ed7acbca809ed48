"""A Redis that is killed, frozen, emptied or full: nothing is sold on a guess or lost.

`test_refusals.py` locks a database file. All tests share one start: each leaves a store that works.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio

from gateway.core.model import Limits
from tests.support.replicas import Replicas, running_replicas
from tests.support.rig import PROMPT, Got
from tests.support.steps import AWAY, USED_UP, tally, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED_SECONDS = 2.0
"""After which a request is refused if the store does not answer."""

SLACK_SECONDS = 8.0
"""What a busy machine may take on top."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    """Two gateways over a Redis that finds everything again after a restart."""
    folder = tmp_path_factory.mktemp("replicas")
    async with running_replicas(folder, shifts=(0.0, -30.0), redis={"appendonly": "yes"}) as made:
        yield made


async def buy_for_all_memories(replicas: Replicas, key: str) -> None:
    """Have one picture in the memory of every gateway, and slow down later calls."""
    replicas.sandbox.settings.latency = 0
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


# -- killed, full -------------------------------------------------------------------------------


@asynccontextmanager
async def killed(replicas: Replicas) -> AsyncIterator[None]:
    await replicas.redis.kill()
    yield
    await replicas.redis.start()


@asynccontextmanager
async def full(replicas: Replicas) -> AsyncIterator[None]:
    async with replicas.redis.client() as client:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used // 2)
        yield
        await client.config_set("maxmemory", 0)


@pytest.mark.parametrize("outage", [killed, full])
async def test_during_an_outage_nothing_is_sold_and_what_was_bought_arrives(
    replicas: Replicas, outage: Callable[[Replicas], AbstractAsyncContextManager[None]]
) -> None:
    team, counts = replicas.new_team(), replicas.sandbox.counts
    before = counts.asked
    key = await replicas.key(team, limits=Limits(images_per_day=100))
    await buy_for_all_memories(replicas, key)
    bought = counts.asked + 40
    under_way = replicas.buying(key, 40)
    await until(lambda: counts.asked == bought)
    async with outage(replicas):
        refused = await asyncio.gather(*(timed(replicas, key) for _ in range(40)))
        assert tally(got for _, got in refused) == {AWAY: 40}
        assert max(seconds for seconds, _ in refused) < REFUSED_SECONDS + SLACK_SECONDS
        await assert_hits(replicas, key)
        assert tally(await asyncio.gather(*under_way)) == {200: 40}
        assert counts.asked == bought
    await until(lambda: replicas.is_closed(team), REFUSED_SECONDS + SLACK_SECONDS)
    bought -= before
    await replicas.assert_books(bought, team=team)
    replicas.sandbox.settings.latency = 0
    got = await asyncio.gather(*replicas.buying(key, 104 - bought))
    assert tally(got) == {200: 100 - bought, USED_UP: 4}
    await replicas.assert_books(100, team=team)


# -- frozen -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [4.0, pytest.param(10.0, marks=pytest.mark.exhaustive)])
async def test_frozen_under_50_requests_a_second(replicas: Replicas, seconds: float) -> None:
    team, counts = replicas.new_team(), replicas.sandbox.counts
    drawn = counts.images_drawn
    key = await replicas.key(team, limits=Limits(images_per_day=400))
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
    await until(lambda: replicas.is_closed(team))
    assert counts.asked > admitted
    await replicas.assert_books(counts.images_drawn - drawn, team=team)
    while tally(got := await asyncio.gather(*replicas.buying(key, 40)))[200]:
        assert tally(got).keys() <= {200, USED_UP}
    assert counts.images_drawn - drawn == 400
    await replicas.assert_books(400, team=team)


# -- emptied ------------------------------------------------------------------------------------


async def flush(replicas: Replicas) -> None:
    async with replicas.redis.client() as client:
        await client.flushall()


async def start_without_data(replicas: Replicas) -> None:
    await replicas.redis.kill()
    shutil.rmtree(replicas.redis.folder / "appendonlydir")
    await replicas.redis.start()


@pytest.mark.parametrize("lose", [flush, start_without_data])
async def test_emptied_nothing_is_sold_until_an_operator_confirms(
    replicas: Replicas, lose: Callable[[Replicas], Awaitable[None]]
) -> None:
    team, counts = replicas.new_team(), replicas.sandbox.counts
    key = await replicas.key(team, limits=Limits(images_per_day=100))
    await buy_for_all_memories(replicas, key)
    bought = counts.asked + 20
    under_way = replicas.buying(key, 20)
    await until(lambda: counts.asked == bought)
    known = [len(gateway.lines()) for gateway in replicas.gateways]
    await lose(replicas)
    for _ in range(2):
        assert tally(await asyncio.gather(*replicas.buying(key, 20))) == {AWAY: 20}
    await assert_hits(replicas, key)
    assert tally(await asyncio.gather(*under_way)) == {200: 20}
    assert counts.asked == bought
    for gateway, lines in zip(replicas.gateways, known, strict=True):
        assert any("confirm-reset" in line.get("event", "") for line in gateway.lines()[lines:])
    await replicas.operator("store", "confirm-reset")
    # Teams and keys are lost too: the operator creates them again. The purchases that were
    # under way are charged to them as soon as they can be written.
    teams = replicas.redis.folder / "teams.toml"
    teams.write_text(f"[teams.{team}.limits]\nimages_per_day = 40\n")
    await replicas.operator("teams", "apply", str(teams))
    new = await replicas.operator("keys", "create", "--team", team)

    async def sell_again() -> bool:
        answers = [await gateway.models(new) for gateway in replicas.gateways]
        return {got.status for got in answers} == {200}

    await until(sell_again, 30)
    assert {(await gateway.models(key)).status for gateway in replicas.gateways} == {401}

    async def charged() -> bool:
        return (await replicas.account(team)).day.images == 20

    await until(charged, 30)
    got = await asyncio.gather(*replicas.buying(new, 30))
    assert tally(got) == {200: 20, USED_UP: 10}
