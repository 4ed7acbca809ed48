"""Uses of keys are recorded, but not each of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.tasks import FLUSH_SECONDS
from gateway.stores.sqlite import SqliteStore
from gateway.tenants.last_used import QUIET_SECONDS, LastUsed
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
def uses(store: FaultyStore, wall: Wall) -> LastUsed:
    return LastUsed(store.directory, wall=wall)


async def test_each_key_is_written_at_most_once_a_minute(
    uses: LastUsed, store: FaultyStore, wall: Wall
) -> None:
    for second in range(150):
        wall.now = NOON + second
        for key in ("k1", "k1", "k2") if second else ("k1",):
            uses.note(key)
        await uses.flush()
    assert store.asked["record_use"] == 6
    assert await store.directory.last_uses() == {"k1": NOON + 120, "k2": NOON + 121}


async def test_a_clock_set_back_silences_no_key(
    uses: LastUsed, store: FaultyStore, wall: Wall
) -> None:
    for wall.now in (NOON, NOON - 3600, NOON - 3600 + QUIET_SECONDS):
        uses.note("k1")
    await uses.flush()
    assert await store.directory.last_uses() == {"k1": NOON - 3600 + QUIET_SECONDS}


# -- in a gateway -------------------------------------------------------------------------------


async def test_every_authenticated_request_counts_as_a_use(rig: Rig) -> None:
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
