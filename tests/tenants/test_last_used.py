import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.stores.sqlite import SqliteStore
from gateway.tenants.last_used import FLUSH_SECONDS, QUIET_SECONDS, LastUse
from tests.conformance.store import Wall
from tests.support.faulty_store import FaultyStore
from tests.support.quota_steps import NOON
from tests.support.rig import Rig


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FaultyStore]:
    async with SqliteStore(tmp_path / "gateway.db") as sqlite:
        yield FaultyStore(sqlite)


@pytest.fixture
def wall() -> Wall:
    return Wall(NOON)


@pytest.fixture
async def uses(store: FaultyStore, wall: Wall) -> AsyncIterator[LastUse]:
    uses = LastUse(store.directory, wall=wall)
    yield uses
    await uses.close()


async def test_a_key_is_written_at_most_once_a_minute(
    uses: LastUse, store: FaultyStore, wall: Wall
) -> None:
    for second in range(150):
        wall.now = NOON + second
        for _ in range(3):
            uses.note("k1")
        await uses.flush()
    assert store.asked["record_use"] == 3
    assert await store.directory.last_uses() == {"k1": NOON + 2 * QUIET_SECONDS}


async def test_keys_do_not_wait_for_each_other(
    uses: LastUse, store: FaultyStore, wall: Wall
) -> None:
    uses.note("k1")
    await uses.flush()
    wall.now += 1
    uses.note("k1")
    uses.note("k2")
    await uses.flush()
    assert await store.directory.last_uses() == {"k1": NOON, "k2": NOON + 1}


async def test_nothing_is_written_where_nothing_was_used(uses: LastUse, store: FaultyStore) -> None:
    await uses.flush()
    assert store.asked["record_use"] == 0


async def test_uses_are_kept_while_the_store_is_away(
    uses: LastUse, store: FaultyStore, wall: Wall
) -> None:
    store.leave()
    for id, later in (("k1", 0), ("k2", 1), ("k1", QUIET_SECONDS)):
        wall.now = NOON + later
        uses.note(id)
        with pytest.raises(StoreUnavailable):
            await uses.flush()
    store.come_back()
    await uses.flush()
    assert await store.directory.last_uses() == {"k1": NOON + QUIET_SECONDS, "k2": NOON + 1}


async def test_what_is_used_while_others_are_written_is_not_lost(
    uses: LastUse, store: FaultyStore
) -> None:
    store.seconds = 0.02
    uses.note("k1")
    writing = asyncio.create_task(uses.flush())
    await asyncio.sleep(0.01)
    uses.note("k2")
    await writing
    await uses.flush()
    assert await store.directory.last_uses() == {"k1": NOON, "k2": NOON}


async def test_a_clock_set_back_silences_nobody(
    uses: LastUse, store: FaultyStore, wall: Wall
) -> None:
    uses.note("k1")
    wall.now = NOON - 3600
    uses.note("k1")
    wall.now = NOON - 3600 + QUIET_SECONDS
    uses.note("k1")
    await uses.flush()
    assert await store.directory.last_uses() == {"k1": NOON - 3600 + QUIET_SECONDS}


async def test_closing_writes_the_last_and_is_quiet_without_a_store(
    uses: LastUse, store: FaultyStore
) -> None:
    uses.start()
    uses.note("k1")
    await uses.close()
    assert await store.directory.last_uses() == {"k1": NOON}
    uses.note("k2")
    store.leave()
    await uses.close()
    store.come_back()


# -- in a gateway -------------------------------------------------------------------------------


async def test_a_key_let_in_is_used_whatever_it_asks_for(rig: Rig) -> None:
    keys = [await rig.key("team"), *[await rig.further_key("team") for _ in range(2)]]
    refused = await rig.further_key("team", expires=NOON)
    assert (await rig.generate(keys[0])).status == 200
    assert (await rig.get("/v1/models", keys[1])).status == 200
    assert (await rig.generate(refused)).status == 401
    generation = (await rig.gateway.store.directory.changes(0)).generation
    await asyncio.sleep(FLUSH_SECONDS + 0.5)
    used = await rig.gateway.store.directory.last_uses()
    assert set(used) == {key.removeprefix("sk-gw-").partition("_")[0] for key in keys[:2]}
    assert (await rig.gateway.store.directory.changes(0)).generation == generation
