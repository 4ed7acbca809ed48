"""Authentication from a copy of the directory, which follows a store that can leave."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.store_url import parse_store_url
from gateway.core import key_format
from gateway.core.errors import KeyDisabled, StoreUnavailable, Unauthenticated
from gateway.core.model import Key, KeyState, Limits, Team
from gateway.stores.redis import RedisStore
from gateway.stores.sqlite import SqliteStore
from gateway.tenants.directory import (
    MOST_CALLERS,
    POLL_SECONDS,
    STALE_SECONDS,
    Directory,
)
from gateway.tenants.store import DirectoryStore
from tests.support.clocks import Clock
from tests.support.directory import put_key, put_teams, set_state
from tests.support.faulty_store import FaultyStore
from tests.support.redis import running_redis

PEPPER = bytes(range(32))


@pytest.fixture
async def wall() -> Clock:
    return Clock(time.time)


@pytest.fixture
async def monotonic() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FaultyStore]:
    async with SqliteStore(tmp_path / "gateway.db") as sqlite:
        await put_teams(sqlite.directory, [Team(name="red")])
        yield FaultyStore(sqlite)


@pytest.fixture
async def directory(store: FaultyStore, wall: Clock, monotonic: Clock) -> AsyncIterator[Directory]:
    """A directory that follows the store."""
    directory = Directory(store.directory, pepper=PEPPER, wall=wall, monotonic=monotonic)
    await directory.start()
    yield directory
    await directory.close()


@pytest.fixture
async def still(store: FaultyStore, wall: Clock, monotonic: Clock) -> Directory:
    """A directory that has read the store once. It does not poll."""
    directory = Directory(store.directory, pepper=PEPPER, wall=wall, monotonic=monotonic)
    await directory.refresh()
    return directory


def minted() -> tuple[str, str]:
    """A key's id and its Authorization header, of a key that no store knows."""
    id, text = key_format.mint(secrets.token_bytes)
    return id, f"Bearer {text}"


async def create(
    store: DirectoryStore, team: str = "red", expires: float | None = None
) -> tuple[str, str]:
    """A new key in the store: its id and its Authorization header."""
    id, header = minted()
    digest = key_format.digest(header.removeprefix("Bearer "), PEPPER)
    await put_key(
        store, Key(id=id, team=team, name="", digest=digest, created=time.time(), expires=expires)
    )
    return id, header


async def refused(directory: Directory, header: str) -> type[Exception]:
    with pytest.raises((Unauthenticated, KeyDisabled, StoreUnavailable)) as error:
        await directory.authenticate([header])
    return error.type


async def within_a_second(directory: Directory, header: str, error: type[Exception]) -> None:
    """The key stops working, as `error`, within a second."""
    async with asyncio.timeout(1):
        while True:
            try:
                await directory.authenticate([header])
            except error:
                return
            await asyncio.sleep(0.01)


# -- authentication -----------------------------------------------------------------------------


async def test_a_new_key_works_at_once(directory: Directory, store: FaultyStore) -> None:
    for number in range(10):
        blue = Team(name=f"blue-{number}", limits=Limits(images_per_day=3))
        await put_teams(store.directory, [blue])
        for team in (Team(name="red"), blue):
            id, header = await create(store.directory, team.name)
            caller = await directory.authenticate([header])
            assert (caller.key.id, caller.team) == (id, team)


async def test_a_key_created_during_a_refresh_works_at_once(
    still: Directory, store: FaultyStore
) -> None:
    _, unknown = minted()
    store.seconds = 0.1
    guessing = asyncio.create_task(refused(still, unknown))
    await asyncio.sleep(0.05)
    _, header = await create(store.directory)
    await still.authenticate([header])
    assert await guessing is Unauthenticated


async def test_known_keys_and_malformed_ones_are_checked_without_the_store(
    still: Directory, store: FaultyStore
) -> None:
    _, header = await create(store.directory)
    await still.refresh()
    asked = store.asked["changes"]
    for _ in range(100):
        await still.authenticate([header])
    wrong = ("", "Bearer", "Bearer sk-gw-", "Basic cmVkOnJlZA==", "Bearer " + "x" * 8192)
    for lines in ([], *([line] for line in wrong), ['Bearer "sk-gw-1"'], [header, header]):
        with pytest.raises(Unauthenticated):
            await still.authenticate(lines)
    assert store.asked["changes"] == asked


async def test_a_known_id_with_a_wrong_secret_is_refused(
    directory: Directory, store: FaultyStore
) -> None:
    id, _ = await create(store.directory)
    _, other = minted()
    token = other.removeprefix("Bearer ")
    body = token.replace(token[6:18], id)[: -key_format.CHECKSUM_CHARS]
    forged = body + key_format._checksum(body)
    assert key_format.parse(forged) == id
    assert await refused(directory, f"Bearer {forged}") is Unauthenticated


async def test_a_cached_header_admits_no_other_header(still: Directory, store: FaultyStore) -> None:
    _, header = await create(store.directory)
    other_id, other = await create(store.directory)
    await still.refresh()
    for _ in range(2):
        await still.authenticate([header])
    _, forged = minted()
    assert await refused(still, forged) is Unauthenticated
    assert await refused(still, header[:-1]) is Unauthenticated
    assert (await still.authenticate([other])).key.id == other_id


async def test_a_cached_caller_has_its_team_as_it_is_now(
    still: Directory, store: FaultyStore
) -> None:
    _, header = await create(store.directory)
    await still.refresh()
    assert (await still.authenticate([header])).team.purged == 0
    await put_teams(store.directory, [Team(name="red", purged=1)])
    await still.refresh()
    assert (await still.authenticate([header])).team.purged == 1
    await put_teams(store.directory, [Team(name="red", purged=1, deleted=True)])
    await still.refresh()
    assert await refused(still, header) is Unauthenticated


async def test_the_cache_of_callers_is_bounded(still: Directory, store: FaultyStore) -> None:
    id, header = await create(store.directory)
    await still.refresh()
    scheme, _, token = header.partition(" ")
    for blanks in range(1, MOST_CALLERS + 3):
        caller = await still.authenticate([f"{scheme}{' ' * blanks}{token}"])
        assert caller.key.id == id
    assert 0 < len(still._callers) <= MOST_CALLERS


async def test_guessing_does_not_hammer_the_store(directory: Directory, store: FaultyStore) -> None:
    asked, started = store.asked["changes"], time.monotonic()
    for _ in range(4):
        headers = [minted()[1] for _ in range(100)]
        ends = await asyncio.gather(*(refused(directory, header) for header in headers))
        assert set(ends) == {Unauthenticated}
    passed = time.monotonic() - started
    assert store.asked["changes"] - asked <= passed * 25 + 5


# -- changes ------------------------------------------------------------------------------------


async def test_a_stopped_key_stops_within_a_second_and_an_enabled_one_works_at_once(
    directory: Directory, store: FaultyStore
) -> None:
    id, header = await create(store.directory)
    states: tuple[tuple[KeyState, type[Exception]], ...] = (
        ("disabled", KeyDisabled),
        ("revoked", Unauthenticated),
    )
    for state, error in states:
        await directory.authenticate([header])
        await set_state(store.directory, id, state)
        await within_a_second(directory, header, error)
        await set_state(store.directory, id, "active")
    await directory.authenticate([header])


async def test_a_copy_that_stood_still_is_refreshed_before_it_decides(
    still: Directory, store: FaultyStore, monotonic: Clock
) -> None:
    """Nothing polls here, as in a process that was stopped and has just been continued."""
    id, header = await create(store.directory)
    caller = await still.authenticate([header])
    await still.confirm(caller)
    await set_state(store.directory, id, "revoked")
    _, new = await create(store.directory)
    monotonic.ahead += 5
    asked = store.asked["changes"]
    ends = await asyncio.gather(
        still.authenticate([new]),
        *(still.authenticate([header]) for _ in range(30)),
        *(still.confirm(caller) for _ in range(30)),
        return_exceptions=True,
    )
    assert getattr(ends[0], "team", None) == Team(name="red")
    assert {type(end) for end in ends[1:]} == {Unauthenticated}
    assert store.asked["changes"] - asked <= 3  # all share them


async def test_a_key_that_was_disabled_or_whose_team_was_deleted_is_not_confirmed(
    still: Directory, store: FaultyStore
) -> None:
    id, header = await create(store.directory)
    caller = await still.authenticate([header])
    await set_state(store.directory, id, "disabled")
    await still.refresh()
    with pytest.raises(KeyDisabled):
        await still.confirm(caller)
    await set_state(store.directory, id, "active")
    await put_teams(store.directory, [Team(name="red", deleted=True)])
    await still.refresh()
    with pytest.raises(Unauthenticated):
        await still.confirm(caller)


async def test_a_slow_store_does_not_refuse_a_key_that_was_just_created(
    directory: Directory, store: FaultyStore
) -> None:
    store.lag = 1.1  # longer than a copy counts as fresh
    _, header = await create(store.directory)
    assert (await directory.authenticate([header])).team.name == "red"


async def test_a_key_ends_when_it_expires(
    still: Directory, store: FaultyStore, wall: Clock
) -> None:
    _, header = await create(store.directory, expires=time.time() + 100)
    await still.authenticate([header])
    wall.ahead = 99.0
    await still.authenticate([header])
    wall.ahead = 101.0
    assert await refused(still, header) is Unauthenticated


# -- outages ------------------------------------------------------------------------------------


async def test_the_copy_serves_for_a_minute_without_the_store(
    directory: Directory, store: FaultyStore, monotonic: Clock
) -> None:
    _, header = await create(store.directory)
    _, unknown = minted()
    await directory.authenticate([header])
    store.leave()
    monotonic.ahead += STALE_SECONDS - 1
    await directory.authenticate([header])
    assert await refused(directory, unknown) is Unauthenticated
    monotonic.ahead += 2
    assert await refused(directory, header) is StoreUnavailable
    assert await refused(directory, unknown) is StoreUnavailable
    assert directory.age > STALE_SECONDS
    store.come_back()
    await asyncio.sleep(2 * POLL_SECONDS)
    await directory.authenticate([header])
    assert directory.age < 1


async def test_concurrent_requests_wait_for_an_absent_store_together(
    still: Directory, store: FaultyStore, monotonic: Clock
) -> None:
    _, header = await create(store.directory)
    await still.refresh()
    store.leave()
    store.seconds = 0.2
    for late, expected in (
        (0.0, Unauthenticated),
        (1.0, Unauthenticated),
        (STALE_SECONDS, StoreUnavailable),
    ):
        monotonic.ahead += late
        headers = [header if expected is StoreUnavailable else minted()[1] for _ in range(50)]
        started = time.monotonic()
        ends = await asyncio.gather(*(refused(still, each) for each in headers))
        assert set(ends) == {expected}
        assert time.monotonic() - started < 5  # one after the other, they would wait for 10 s


async def test_a_client_that_leaves_during_a_refresh_does_not_fail_the_others(
    still: Directory, store: FaultyStore
) -> None:
    _, header = await create(store.directory)
    store.seconds = 0.05
    first = asyncio.create_task(still.authenticate([header]))
    others = [asyncio.create_task(still.authenticate([header])) for _ in range(5)]
    await asyncio.sleep(0.07)
    first.cancel()
    assert {caller.team.name for caller in await asyncio.gather(*others)} == {"red"}


async def test_a_start_without_a_store_fails(store: FaultyStore, wall: Clock) -> None:
    store.leave()
    directory = Directory(store.directory, pepper=PEPPER, wall=wall, monotonic=time.monotonic)
    with pytest.raises(StoreUnavailable):
        await directory.start()
    await directory.close()


async def test_data_that_the_store_lost_is_dropped_once_that_is_confirmed(
    tmp_path: Path, wall: Clock, monotonic: Clock
) -> None:
    async with (
        running_redis(tmp_path / "redis") as server,
        RedisStore(parse_store_url(server.url)) as redis,
        server.client() as client,
    ):
        await put_teams(redis.directory, [Team(name="red"), Team(name="blue")])
        _, header = await create(redis.directory)
        directory = Directory(redis.directory, pepper=PEPPER, wall=wall, monotonic=monotonic)
        await directory.refresh()
        await client.flushall()
        with pytest.raises(StoreUnavailable):
            await directory.refresh()
        assert (await directory.authenticate([header])).team.name == "red"
        await redis.confirm_reset()
        await put_teams(redis.directory, [Team(name="blue")])
        await directory.refresh()
        assert list(directory.teams) == ["blue"]
        assert await refused(directory, header) is Unauthenticated
