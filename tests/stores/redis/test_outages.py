import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.config.store_url import StoreUrl, parse_store_url
from gateway.core.errors import StoreLost, StoreUnavailable
from gateway.core.model import Team
from gateway.core.periods import DAY_SECONDS
from gateway.quota.account import EMPTY
from gateway.quota.store import Change
from gateway.reporting.request_lines import HistoryBatch, LineFilter
from gateway.stores.port import Store
from gateway.stores.redis import RedisStore, names
from gateway.stores.redis.link import CALM_SECONDS, CONNECTIONS, PATIENCE_SECONDS
from gateway.tenants.store import DirectoryWrite
from tests.conformance.store import NOON, MakeStore, comes_back, entry, held, images, put, spent
from tests.conformance.test_archive import restore
from tests.conformance.test_audit import committed
from tests.support.directory import put_key, put_teams
from tests.support.redis import RedisServer, running_redis
from tests.support.states import KEY, PURGED, RED, history, state
from tests.support.steps import until
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

SOON = PATIENCE_SECONDS + 1.5
"""Seconds within which every operation must have ended, on a busy machine."""


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[TcpProxy]:
    async with tcp_proxy(server.port) as proxy:
        yield proxy


def at(port: int) -> StoreUrl:
    return parse_store_url(f"redis://127.0.0.1:{port}")


def store_of(server: RedisServer | TcpProxy) -> RedisStore:
    return RedisStore(at(server.port))


def operations(store: Store) -> tuple[Callable[[], Awaitable[object]], ...]:
    """Every operation of a store."""
    return (
        partial(store.accounts.load, ["a"]),
        partial(store.accounts.swap, [Change("a", 0, spent(1))], [entry("refused")]),
        partial(store.accounts.record, [entry("refused")]),
        partial(store.accounts.written, {"refused": NOON}),
        store.accounts.due,
        partial(store.directory.changes, 0),
        partial(store.directory.commit, 1, DirectoryWrite(teams=[Team(name="refused")])),
        partial(store.directory.record_use, {"k1": NOON}),
        store.directory.last_uses,
        partial(store.audit.entries, None, None),
        partial(store.audit.forget, 0.0),
        partial(store.claims.claim, "refused", "me", 60),
        store.claims.current,
        partial(store.check_value, "pepper", b"refused"),
        partial(store.usage.report, [], None, None),
        partial(store.usage.tidy, NOON, NOON - 90 * DAY_SECONDS),
        partial(store.history.write, HistoryBatch(writer="0" * 8, number=1, at=NOON)),
        partial(store.history.lines, LineFilter(), 1),
        partial(store.history.errors, NOON, NOON + 1),
        partial(store.history.latency, NOON, NOON + 1),
        partial(store.history.forget, NOON),
    )


async def refuses(store: Store) -> None:
    """Check that every operation is refused in time, more at once than there are connections."""

    async def refuse(operation: Callable[[], Awaitable[object]]) -> None:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await operation()
        assert time.monotonic() - started < SOON

    assert len(operations(store)) > CONNECTIONS
    await asyncio.gather(*map(refuse, operations(store)))


async def test_a_swap_with_a_lost_reply_happens_once(proxy: TcpProxy) -> None:
    async with store_of(proxy) as store:
        await put(store, "a", spent(1))
        proxy.drop_replies = True
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
        proxy.drop_replies = False
        assert not await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
        assert (await store.accounts.load(["a"])).accounts == [(spent(2), 2)]
        assert await store.accounts.swap([Change("a", 2, spent(3))], [entry("e")])
        (row,) = await store.usage.report([], None, None)
        assert (row.requests, row.cost) == (1, 5)


async def test_late_replies_reach_no_other_call(proxy: TcpProxy) -> None:
    async with store_of(proxy) as store:
        for number in range(8):
            await put(store, str(number), spent(number))
        proxy.delay = 1.4
        ends = await asyncio.gather(
            *(store.accounts.load([str(number)]) for number in range(8)), return_exceptions=True
        )
        assert [type(end) for end in ends] == [StoreUnavailable] * 8
        proxy.delay = 0.0
        for number in reversed(range(8)):
            assert await images(store, str(number)) == number


async def test_cut_connections_are_an_outage_that_ends_by_itself(proxy: TcpProxy) -> None:
    async with store_of(proxy) as store:
        await put(store, "a", spent(1))
        with capture_logs() as lines:
            await proxy.stop()
            await refuses(store)
            await proxy.start()
            await comes_back(store)
        assert [line["event"] for line in lines] == [
            "the store does not answer",
            "the store answers again",
        ]
        assert await images(store, "a") == 1


async def test_a_full_server_is_one_outage_although_reads_go_on(server: RedisServer) -> None:
    async with store_of(server) as store, server.client() as client:
        await put(store, "a", spent(1))
        with capture_logs() as lines:
            await client.config_set("maxmemory", 1)
            for _ in range(3):
                with pytest.raises(StoreUnavailable) as full:
                    await store.accounts.swap([Change("a", 1, spent(2))], [])
                assert full.value.cause == "its memory is full"
                assert await images(store, "a") == 1
                await client.config_set("maxmemory", 0)
                await store.accounts.record([])  # at the edge, some writes succeed
                await client.config_set("maxmemory", 1)
            assert [line["event"] for line in lines] == ["the store takes no writes"]
            await client.config_set("maxmemory", 0)

            async def is_said() -> bool:
                await store.accounts.record([])
                return len(lines) > 1

            await until(is_said, CALM_SECONDS + 10, 0.1)
        assert lines[1]["event"] == "the store takes writes again"


async def test_a_frozen_server_is_an_outage_and_later_runs_the_calls_it_has(
    server: RedisServer, store: Store, other: Store
) -> None:
    await put(store, "a", spent(1))
    await images(other, "a")
    server.freeze()
    with pytest.raises(StoreUnavailable):
        await store.accounts.swap([Change("a", 1, spent(99))], [entry("old")])
    await refuses(store)
    server.thaw()
    await comes_back(other)
    # The abandoned swap is neither lost nor done twice, and never wins against a later version.
    won = await other.accounts.swap([Change("a", 1, spent(2))], [entry("new")])
    assert await images(other, "a") == (2 if won else 99)
    (row,) = await other.usage.report([], None, None)
    assert row.requests in (1, 2)  # one more was sent by a call that was refused


async def test_a_restart_with_its_data_is_an_outage_that_ends_by_itself(tmp_path: Path) -> None:
    kept = {"appendonly": "yes", "appendfsync": "always"}
    async with running_redis(tmp_path / "redis", **kept) as server, store_of(server) as store:
        await put_teams(store.directory, [RED])
        await put(store, "a", spent(1))
        generation = (await store.directory.changes(0)).generation
        await server.kill()
        await refuses(store)
        await server.start()
        for _ in range(2):  # in the second turn, as many connections are idle
            loads = (images(store, "a") for _ in range(CONNECTIONS))
            assert await asyncio.gather(*loads) == [1] * CONNECTIONS
            await server.stop()
            await server.start()
        assert await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
        assert (await store.directory.changes(generation)).generation == generation


async def lose_by_flushing(server: RedisServer) -> None:
    async with server.client() as client:
        await client.flushall()


async def lose_by_restarting(server: RedisServer) -> None:
    await server.kill()
    await server.start()


@pytest.mark.parametrize("lose", [lose_by_flushing, lose_by_restarting])
async def test_an_emptied_server_is_refused_until_an_operator_confirms(
    server: RedisServer, lose: Callable[[RedisServer], Awaitable[None]]
) -> None:
    async with store_of(server) as store, store_of(server) as second:
        await put_teams(store.directory, [RED])
        await put_key(store.directory, KEY)
        await put(store, "a", spent(5))
        await put(store, "a", spent(6))
        since = (await store.directory.changes(0)).generation
        assert not await second.confirm_reset()  # no gateway waits for that
        await lose(server)
        with capture_logs() as lines:
            with pytest.raises(StoreLost, match="lost its data"):
                await store.accounts.load(["a"])
            for _ in range(2):
                await refuses(store)
            errors = [line["event"] for line in lines if line["log_level"] == "error"]
        assert len(errors) == 1
        assert "gateway store confirm-reset" in errors[0]

        await refuses(second)  # and has new connections from then on
        async with store_of(server) as operator:  # begins an epoch, which confirms nothing
            await refuses(store)
            assert await operator.confirm_reset()
            assert not await operator.confirm_reset()
        for running in (store, second):  # the very next call of each
            assert (await running.accounts.load(["a"])).accounts == [(EMPTY, 0)]
        assert not await store.accounts.swap([Change("a", 2, spent(7))], [])
        assert await store.accounts.swap([Change("a", 0, spent(1))], [])
        assert await images(second, "a") == 1
        changes = await store.directory.changes(since)
        assert (changes.whole, changes.teams, changes.keys) == (True, [], [])
        assert await store.usage.report([], None, None) == []


async def test_data_that_comes_back_after_all_ends_the_refusal(
    server: RedisServer, store: Store
) -> None:
    await put(store, "a", spent(5))
    async with server.client() as client:
        kept = {key: await client.dump(key) for key in await client.keys()}
        await client.flushall()
        await refuses(store)
        for key, value in kept.items():
            await client.restore(key, 0, value or b"")
    assert await images(store, "a") == 5


async def test_lost_writes_are_reported_once_each_time(server: RedisServer) -> None:
    failed: list[str] = []

    def observe(operation: str, seconds: float, answered: bool) -> None:
        failed.extend([] if answered else [operation])

    store = RedisStore(at(server.port), observe=observe)
    async with store, store_of(server) as other, server.client() as client:
        await put(store, "a", spent(1))
        former = await client.hget(names.ACCOUNTS, "a")
        for turn, lost in enumerate((spent(2), spent(3)), 1):
            await put(store, "a", lost)
            await client.hset(names.ACCOUNTS, "a", former)
            if turn == 2:  # and another gateway gave the lost version out again
                await put(other, "a", spent(1))
                assert not await store.accounts.swap([Change("a", 2, spent(4))], [])
            with capture_logs() as lines:
                for _ in range(2):
                    assert await images(store, "a") == 1
            (line,) = [line for line in lines if line["log_level"] == "error"]
            assert ("went back" in line["event"], line["account"]) == (True, "a")
            assert line["images_lost"] == turn
            assert failed == ["went_back"] * turn
        await client.hdel(names.ACCOUNTS, "a")
        assert (await store.accounts.load(["a"])).accounts == [(EMPTY, 0)]
        assert failed == ["went_back"] * 3


async def test_generations_that_were_lost_are_not_used_again(store: Store, client: Redis) -> None:
    await put_teams(store.directory, [RED])
    before = await client.hget(names.META, "generation")
    await put_teams(store.directory, [Team(name="lost")])
    lost = (await store.directory.changes(0)).generation
    await client.hset(names.META, "generation", before)
    assert (await store.directory.changes(lost)).whole
    await put_teams(store.directory, [Team(name="new")])
    assert [team.name for team in (await store.directory.changes(lost)).teams] == ["new"]


async def test_without_memory_nothing_is_written_and_nothing_lost(
    server: RedisServer, store: Store, client: Redis
) -> None:
    await put_teams(store.directory, [RED])
    await put_key(store.directory, KEY)
    await put(store, "a", held(x=NOON))
    await store.accounts.record([entry("e")])
    kept = {key: await client.dump(key) for key in await client.keys()}
    await client.set("filling", b"x" * 1_000_000)
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", used - 500_000)
    for operation in (
        store.accounts.swap([Change("a", 1, EMPTY)], [entry("e", cost=9), entry("f")]),
        store.accounts.swap([Change("a", 1, spent(1)), Change("b", 0, spent(1))], []),
        store.accounts.record([entry("g")]),
        committed(store, DirectoryWrite(keys=[replace(KEY, id="k2")])),
        committed(store, DirectoryWrite(audit=[PURGED])),
    ):
        with pytest.raises(StoreUnavailable):
            await operation
    assert {key: await client.dump(key) for key in await client.keys() if key in kept} == kept

    assert (await store.accounts.load(["a"])).accounts == [(held(x=NOON), 1)]
    assert await store.accounts.due() == ["a"]
    revoked = replace(KEY, state="revoked")
    assert await committed(store, DirectoryWrite(keys=[revoked], audit=[PURGED]))
    async with store_of(server) as started:
        assert await started.check_value("pepper", b"p")
        assert [key.state for key in (await started.directory.changes(0)).keys] == ["revoked"]

    await client.config_set("maxmemory", 0)
    assert await store.accounts.swap([Change("a", 1, EMPTY)], [entry("e", cost=9), entry("f")])
    assert (await store.usage.report([], None, None))[0].cost == 14


async def test_an_import_that_does_not_fit_is_taken_back(
    make_store: MakeStore, client: Redis
) -> None:
    now = time.time()
    entries = [replace(e, at=now - number) for number, e in enumerate(history(20_000))]
    memory = await client.info("memory")
    await client.config_set("maxmemory", memory["used_memory"] + 2_000_000)
    with pytest.raises(StoreUnavailable):
        await restore(make_store, state(entries))
    assert await client.dbsize() == 0
    await restore(make_store, state(entries[:100]))
    async with make_store() as store:
        (row,) = await store.usage.report([], None, None)
        assert row.requests == sum(each.requests for each in entries[:100])


async def test_a_master_that_became_a_replica_answers_nothing(store: Store, client: Redis) -> None:
    await put(store, "a", spent(1))
    await client.replicaof("127.0.0.1", 1)
    await refuses(store)
    await client.replicaof("NO", "ONE")
    assert await images(store, "a") == 1


async def test_damaged_bytes_are_an_outage_never_a_fresh_budget(
    store: Store, client: Redis
) -> None:
    await put(store, "a", spent(5))
    await put_teams(store.directory, [RED])
    for damaged in (b"", b"\0", b"\0" * 16, b"\0" * 40):
        await client.hset(names.ACCOUNTS, "a", damaged)
        with pytest.raises(StoreUnavailable):
            await store.accounts.load(["a"])
        assert (await store.accounts.load(["b"])).accounts == [(EMPTY, 0)]
    await client.hset(names.TEAMS, "red", b"{")
    with pytest.raises(StoreUnavailable):
        await store.directory.changes(0)


async def test_the_wait_of_every_call_for_a_connection_is_observed(server: RedisServer) -> None:
    seen: list[str] = []

    def observe(operation: str, seconds: float, answered: bool) -> None:
        assert 0 <= seconds < SOON
        seen.append(operation)

    async with RedisStore(at(server.port), observe=observe) as store:
        seen.clear()
        await store.usage.report([], None, None)
    assert seen == ["pool_wait", "pool_wait", "usage"]  # it calls the server twice


async def test_cancelled_calls_leave_no_reply_to_others_and_no_connection(
    store: Store, client: Redis
) -> None:
    chance = random.Random(4)
    for number in range(50):
        await put(store, str(number), spent(number))

    async def ask() -> bool:
        number = chance.randrange(50)
        answer = await images(store, str(number))
        assert answer == number
        return True

    cancelled = answered = 0
    while cancelled < 300:
        tasks = [asyncio.create_task(ask()) for _ in range(20)]
        for task in tasks:
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)
            if chance.random() < 0.8:
                task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            cancelled += isinstance(end, asyncio.CancelledError)
            answered += end is True
            assert end is True or isinstance(end, asyncio.CancelledError)
    assert answered > 20
    assert await asyncio.gather(*(ask() for _ in range(100))) == [True] * 100
    assert len(await client.client_list()) <= CONNECTIONS + 1
    assert (await client.info("stats"))["total_connections_received"] <= CONNECTIONS + 5


async def test_a_closed_store_is_an_outage_and_leaves_no_connection(
    server: RedisServer, client: Redis
) -> None:
    await client.ping()
    store = store_of(server)
    await store.open()
    last = asyncio.create_task(put(store, "a", spent(1)))
    await asyncio.sleep(0)
    await store.close()
    await asyncio.wait([last])
    await refuses(store)
    async with asyncio.timeout(5):
        while len(await client.client_list()) > 1:  # the server sees it in its own time
            await client.ping()
