"""The ledger over the real embedded store, behind one that fails in every way it can."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from gateway.config.store_url import parse_store_url
from gateway.core.errors import InternalError, StoreLost, StoreUnavailable
from gateway.core.model import Limits, UsageRow
from gateway.quota.account import EMPTY, GATEWAY, Account, team_account
from gateway.quota.ledger import MAX_BATCH, PATIENCE_SECONDS, SWEEP_SECONDS, Ledger
from gateway.quota.observer import LedgerObserver
from gateway.quota.steps import Accounts, Denied, Held, Reserve, StepResult
from gateway.quota.store import AccountStore
from gateway.stores.redis import RedisStore
from gateway.stores.sqlite import SqliteStore
from tests.support.clocks import Clock
from tests.support.faulty_store import FaultyStore
from tests.support.quota_steps import release, reserve, settle
from tests.support.redis import running_redis

HUNDRED = Limits(images_per_day=100)


@pytest.fixture
async def wall() -> Clock:
    return Clock(time.time)


@pytest.fixture
async def sqlite(tmp_path: Path, wall: Clock) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "gateway.db", wall=wall) as store:
        yield store


@pytest.fixture
async def store(sqlite: SqliteStore) -> FaultyStore:
    return FaultyStore(sqlite)


@asynccontextmanager
async def running(store: AccountStore, **arguments: Any) -> AsyncIterator[Ledger]:
    """A ledger at work. It is closed without waiting for what is not written."""
    ledger = Ledger(store, spread=random.random, **arguments)
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close(0)


@pytest.fixture
async def ledger(store: FaultyStore) -> AsyncIterator[Ledger]:
    async with running(store.accounts) as ledger:
        yield ledger


async def account(store: AccountStore, name: str = "team:red") -> tuple[Account, int]:
    return (await store.load([name])).accounts[0]


async def usage(store: SqliteStore) -> UsageRow:
    (row,) = await store.usage.report([], None, None)
    return row


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)


async def written(ledger: Ledger) -> None:
    await until(lambda: not ledger.unwritten)


async def all_of(work: Sequence[Awaitable[Held | Denied]]) -> tuple[int, int]:
    """How many were held and refused."""
    outcomes = await asyncio.gather(*work)
    held = sum(isinstance(outcome, Held) for outcome in outcomes)
    return held, len(outcomes) - held


async def test_a_store_that_lost_its_data_differs_from_one_that_is_away(tmp_path: Path) -> None:
    async with (
        running_redis(tmp_path / "redis") as server,
        RedisStore(parse_store_url(server.url)) as redis,
        running(redis.accounts) as ledger,
    ):
        async with server.client() as client:
            await client.flushall()
        with pytest.raises(StoreLost):
            await ledger.reserve(reserve("r1"), patience=1)
        assert await redis.confirm_reset()
        assert isinstance(await ledger.reserve(reserve("r2")), Held)
        await server.kill()
        with pytest.raises(StoreUnavailable) as away:
            await ledger.reserve(reserve("r3"), patience=1)
        assert away.type is StoreUnavailable


# -- what cannot be written ---------------------------------------------------------------------

ABSURD = 10**19
"""More than any store can keep."""


@pytest.fixture(params=["sqlite", "redis"])
async def real(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FaultyStore]:
    if request.param == "sqlite":
        async with SqliteStore(tmp_path / "gateway.db") as sqlite:
            yield FaultyStore(sqlite)
        return
    async with (
        running_redis(tmp_path / "redis") as server,
        RedisStore(parse_store_url(server.url)) as redis,
    ):
        yield FaultyStore(redis)


@pytest.mark.parametrize("cost", [ABSURD, 10**30], ids=["for sums", "for accounts"])
async def test_an_account_that_cannot_be_written_stops_no_other(
    real: FaultyStore, cost: int
) -> None:
    async with running(real.accounts) as ledger:
        for team in ("good", "bad", "fine"):
            assert isinstance(await ledger.reserve(reserve(team, team)), Held)
        real.lag = 0.2  # all of these in one batch
        first = asyncio.create_task(ledger.reserve(reserve("other", "other")))
        await until(lambda: bool(real.asked["swap"] > 3))
        bad = asyncio.create_task(ledger.finish(settle("bad", "bad", cost=cost)))
        await asyncio.gather(
            first, *(ledger.finish(settle(team, team)) for team in ("good", "fine"))
        )
        real.lag = 0
        for team in ("good", "fine"):
            state, _ = await account(real.accounts, team_account(team))
            assert (state.day.images, state.holds) == (1, {})
        await bad
        assert ledger.unwritten == 1
        state, _ = await account(real.accounts, team_account("bad"))
        assert (state.day.images, set(state.holds)) == (0, {"bad"})


async def test_purchases_of_an_account_that_cannot_be_written_are_refused(
    ledger: Ledger, sqlite: SqliteStore
) -> None:
    with capture_logs() as lines:
        for number in range(5):
            with pytest.raises(StoreUnavailable):
                await ledger.reserve(reserve(f"bad{number}", "bad", cost=10**30))
            assert isinstance(await ledger.reserve(reserve(f"good{number}")), Held)
    assert [line["event"] for line in lines] == ["batch failed", "account cannot be written"]
    assert (await account(sqlite.accounts, team_account("bad"))) == (EMPTY, 0)
    assert not ledger.unwritten


async def test_what_could_not_be_written_is_tried_again(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore
) -> None:
    await ledger.reserve(reserve())
    store.defects = [OverflowError("one batch"), OverflowError("and its account")]
    await ledger.finish(settle())
    await until(lambda: not ledger.unwritten, SWEEP_SECONDS + 5)
    assert (await account(sqlite.accounts))[0].day.images == 1


# -- exactness ----------------------------------------------------------------------------------


async def test_a_thousand_at_once_on_a_hundred_images(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore
) -> None:
    steps = [reserve(f"r{number}", limits=HUNDRED) for number in range(1000)]
    assert await all_of([ledger.reserve(step) for step in steps]) == (100, 900)
    state, _ = await account(sqlite.accounts)
    assert (state.day.held_images, len(state.holds)) == (100, 100)
    await asyncio.gather(*(ledger.finish(settle(id)) for id in state.holds))
    state, _ = await account(sqlite.accounts)
    assert (state.day.images, state.day.held_images, state.holds) == (100, 0, {})
    assert (await usage(sqlite)).images_bought == 100
    assert store.asked["swap"] < 20


async def test_teams_share_the_gateways_limit_exactly(ledger: Ledger, sqlite: SqliteStore) -> None:
    steps = [
        reserve(f"r{number}", f"team{number % 10}", 1 + number % 4, gateway_limits=HUNDRED)
        for number in range(300)
    ]
    await all_of([ledger.reserve(step) for step in steps])
    common, _ = await account(sqlite.accounts, GATEWAY)
    assert 97 <= common.day.held_images <= 100
    teams = [
        (await account(sqlite.accounts, team_account(f"team{number}")))[0] for number in range(10)
    ]
    assert sum(team.day.held_images for team in teams) == common.day.held_images


async def test_two_processes_share_a_budget_exactly_and_neither_starves(
    tmp_path: Path, sqlite: SqliteStore
) -> None:
    slowest = 0.0

    async def buy(ledger: Ledger, id: str) -> bool:
        nonlocal slowest
        await asyncio.sleep(random.random())
        started = time.monotonic()
        outcome = await ledger.reserve(reserve(id, limits=HUNDRED))
        if isinstance(outcome, Held):
            await ledger.finish(settle(id))
        slowest = max(slowest, time.monotonic() - started)
        return isinstance(outcome, Held)

    async with (
        SqliteStore(tmp_path / "gateway.db") as other,
        running(sqlite.accounts) as first,
        running(other.accounts) as second,
    ):
        bought = await asyncio.gather(
            *(buy(first, f"a{number}") for number in range(200)),
            *(buy(second, f"b{number}") for number in range(200)),
        )
    assert sum(bought) == 100
    assert (await usage(sqlite)).images_bought == 100
    assert (await account(sqlite.accounts))[0].holds == {}
    assert slowest < 1.5


async def test_many_waiting_steps_are_few_swaps(ledger: Ledger, store: FaultyStore) -> None:
    store.seconds = 0.05
    steps = [reserve(f"r{number}") for number in range(500)]
    assert await all_of([ledger.reserve(step) for step in steps]) == (500, 0)
    assert store.asked["swap"] <= 3
    await asyncio.gather(*(ledger.finish(settle(step.id)) for step in steps))
    assert store.asked["swap"] <= 6


async def test_refusals_are_not_written(ledger: Ledger, store: FaultyStore) -> None:
    await ledger.reserve(reserve("r1", limits=Limits(concurrent_requests=1)))
    swaps = store.asked["swap"]
    for _ in range(3):
        outcome = await ledger.reserve(reserve("r2", limits=Limits(concurrent_requests=1)))
        assert isinstance(outcome, Denied)
    assert store.asked["swap"] == swaps


async def test_written_accounts_are_reported(store: FaultyStore) -> None:
    class Seen(LedgerObserver):
        accounts: Mapping[str, Account] = {}

        def accounts_seen(self, accounts: Mapping[str, Account]) -> None:
            self.accounts = accounts

    seen = Seen()
    async with running(store.accounts, observer=seen) as ledger:
        await ledger.reserve(reserve(images=3))
        assert seen.accounts[team_account("red")].day.held_images == 3


# -- lost replies -------------------------------------------------------------------------------


async def test_a_reservation_whose_reply_was_lost_is_held_once(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore
) -> None:
    store.losing = 2
    limits = Limits(images_per_day=4, requests_per_minute=1, concurrent_requests=1)
    assert isinstance(await ledger.reserve(reserve(images=4, limits=limits)), Held)
    state, version = await account(sqlite.accounts)
    assert (state.day.held_images, len(state.holds), version) == (4, 1, 1)
    assert [count for _, count in state.minute] == [1]


@pytest.mark.parametrize("outcome", [settle(), settle(unknown=True), release()])
async def test_an_outcome_whose_reply_was_lost_counts_once(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore, outcome: Any
) -> None:
    await ledger.reserve(reserve())
    store.losing = 1
    await ledger.finish(outcome)
    state, version = await account(sqlite.accounts)
    images = getattr(outcome, "images", 0)
    assert (state.day.images, state.day.held_images, version) == (images, 0, 2)
    row = await usage(sqlite)
    assert (row.requests, row.images_bought, row.cost) == (1, images, images * 40_000)


# -- giving up ----------------------------------------------------------------------------------


async def given_up(ledger: Ledger, store: FaultyStore) -> None:
    """A reservation whose swap froze, and whose caller has left since."""
    store.freezing, store.leaving = 1, True
    caller = asyncio.create_task(ledger.reserve(reserve()))
    await until(lambda: store.frozen == 1)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


@pytest.mark.parametrize("former", [0, 1])
async def test_a_swap_that_thaws_after_the_cancel_is_too_late(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore, former: int
) -> None:
    if former:
        await ledger.reserve(reserve("former"))
    await given_up(ledger, store)
    store.come_back()
    await written(ledger)
    assert await store.thaw() == [False]
    state, version = await account(sqlite.accounts)
    assert "r1" not in state.holds
    assert version == former + 1


@pytest.mark.parametrize("former", [0, 1])
async def test_a_swap_that_thaws_before_the_cancel_is_taken_back(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore, former: int
) -> None:
    if former:
        await ledger.reserve(reserve("former"))
    await given_up(ledger, store)
    assert await store.thaw() == [True]
    assert "r1" in (await account(sqlite.accounts))[0].holds
    store.come_back()
    await written(ledger)
    state, version = await account(sqlite.accounts)
    assert "r1" not in state.holds
    assert state.day.held_images == former
    assert version == former + 2
    assert await sqlite.usage.report([], None, None) == []


async def test_a_frozen_swap_does_not_undo_what_came_later(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore
) -> None:
    store.freezing = 1
    steps = [reserve(f"r{number}") for number in range(50)]
    assert await all_of([ledger.reserve(step) for step in steps]) == (50, 0)
    await asyncio.gather(*(ledger.finish(settle(step.id)) for step in steps))
    assert await store.thaw() == [False]
    state, _ = await account(sqlite.accounts)
    assert (state.day.images, state.holds) == (50, {})


async def test_an_absent_store_is_reported_in_time_and_leaves_no_hold(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore
) -> None:
    store.leave("load", "swap")
    started = time.monotonic()
    outcomes = await asyncio.gather(
        *(ledger.reserve(reserve(f"r{number}")) for number in range(50)), return_exceptions=True
    )
    assert PATIENCE_SECONDS - 0.1 < time.monotonic() - started < PATIENCE_SECONDS + 0.5
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    store.come_back()
    await written(ledger)
    assert (await account(sqlite.accounts))[0] == EMPTY


async def test_a_swap_slower_than_patience_leaves_no_hold(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore
) -> None:
    store.seconds = 1.2
    with pytest.raises(StoreUnavailable):
        await ledger.reserve(reserve())
    store.seconds = 0.0
    await written(ledger)
    assert (await account(sqlite.accounts))[0].holds == {}


async def test_whoever_leaves_while_waiting_leaves_no_hold(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore
) -> None:
    for pause in (0.0, 0.001, 0.004, 0.01, 0.02):
        store.seconds = 0.005
        callers = [asyncio.create_task(ledger.reserve(reserve(f"r{n}-{pause}"))) for n in range(20)]
        await asyncio.sleep(pause)
        for caller in callers:
            caller.cancel()
        ends = await asyncio.gather(*callers, return_exceptions=True)
        for id, end in enumerate(ends):
            if isinstance(end, Held):
                await ledger.finish(release(f"r{id}-{pause}"))
        await written(ledger)
        assert (await account(sqlite.accounts))[0].holds == {}


async def test_those_turned_away_in_an_outage_do_not_pile_up(
    ledger: Ledger, store: FaultyStore
) -> None:
    store.leave()
    for turn in range(5):
        callers = [
            asyncio.create_task(ledger.reserve(reserve(f"r{turn}-{number}")))
            for number in range(400)
        ]
        await asyncio.sleep(0.06)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    assert ledger.unwritten <= 2 * MAX_BATCH
    store.come_back()
    started = time.monotonic()
    assert isinstance(await ledger.reserve(reserve("after")), Held)
    assert time.monotonic() - started < 1.5


# -- outcomes -----------------------------------------------------------------------------------


async def test_an_outcome_waits_two_seconds_and_is_written_all_the_same(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore
) -> None:
    await ledger.reserve(reserve())
    store.leave()
    started = time.monotonic()
    await ledger.finish(settle())
    assert PATIENCE_SECONDS - 0.1 < time.monotonic() - started < PATIENCE_SECONDS + 0.5
    assert ledger.unwritten == 1
    store.come_back()
    await written(ledger)
    assert (await usage(sqlite)).images_bought == 1


async def test_whoever_leaves_an_outcome_does_not_stop_it(
    ledger: Ledger, store: FaultyStore, sqlite: SqliteStore
) -> None:
    await ledger.reserve(reserve())
    store.leave()
    caller = asyncio.create_task(ledger.finish(settle()))
    await asyncio.sleep(0.05)
    caller.cancel()
    await asyncio.wait([caller])
    store.come_back()
    await written(ledger)
    assert (await usage(sqlite)).images_bought == 1


async def test_closing_waits_for_what_is_not_written(
    store: FaultyStore, sqlite: SqliteStore
) -> None:
    async with running(store.accounts) as ledger:
        await ledger.reserve(reserve())
        store.leave()
        finishing = asyncio.create_task(ledger.finish(settle()))
        await asyncio.sleep(0.05)
        asyncio.get_running_loop().call_later(0.3, store.come_back)
        assert await ledger.close(5)
        await finishing
    assert (await usage(sqlite)).images_bought == 1


async def test_closing_does_not_wait_for_ever(store: FaultyStore) -> None:
    async with running(store.accounts) as ledger:
        await ledger.reserve(reserve())
        store.leave()
        finishing = asyncio.create_task(ledger.finish(settle()))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        assert not await ledger.close(0.2)
        assert time.monotonic() - started < 0.5
        finishing.cancel()


async def test_closing_an_idle_ledger_takes_no_time(store: FaultyStore) -> None:
    async with running(store.accounts) as ledger:
        await ledger.reserve(reserve())
        started = time.monotonic()
        assert await ledger.close(5)
        assert time.monotonic() - started < 0.1


# -- the sweep ----------------------------------------------------------------------------------


async def test_a_dead_processs_hold_is_swept_by_another(sqlite: SqliteStore) -> None:
    async with running(sqlite.accounts) as alive:
        async with running(sqlite.accounts) as dead:
            await dead.reserve(reserve(images=4, lease=0.3))
        started = time.monotonic()
        while (await account(sqlite.accounts))[0].holds:
            await asyncio.sleep(0.02)
            assert time.monotonic() - started < 0.3 + SWEEP_SECONDS + 0.5
        row = await usage(sqlite)
        assert (row.images_bought, row.images_unknown) == (4, 4)
        await alive.finish(settle(images=3))
        await alive.finish(settle(images=2))
        row = await usage(sqlite)
        assert (row.requests, row.images_bought, row.images_unknown) == (1, 3, 0)
        assert (await account(sqlite.accounts))[0].day.images == 3


async def test_starting_sweeps_what_a_crash_left(sqlite: SqliteStore, wall: Clock) -> None:
    async with running(sqlite.accounts) as dead:
        for team in ("red", "blue"):
            await dead.reserve(reserve(team, team, 2, gateway_limits=HUNDRED))
    wall.ahead += 304
    async with running(sqlite.accounts) as ledger:
        await written(ledger)
        assert len((await account(sqlite.accounts))[0].holds) == 1
    wall.ahead += 2
    async with running(sqlite.accounts) as ledger:
        await written(ledger)
        for team in ("red", "blue"):
            assert (await account(sqlite.accounts, team_account(team)))[0].holds == {}
        assert (await account(sqlite.accounts, GATEWAY))[0].day.images == 4
        assert (await usage(sqlite)).images_unknown == 4


async def test_sweeps_do_not_pile_up_while_nothing_can_be_written(
    store: FaultyStore, wall: Clock
) -> None:
    async with running(store.accounts) as ledger:
        await ledger.reserve(reserve())
        store.leave("swap")
        wall.ahead += 400
        await until(lambda: store.asked["due"] >= 3, 2 * SWEEP_SECONDS + 1)
        await asyncio.sleep(0.1)
        assert ledger.unwritten == 1
        store.come_back()
        await written(ledger)
        assert (await account(store.accounts))[0].holds == {}


async def test_starting_without_a_store_is_reported(store: FaultyStore) -> None:
    store.leave()
    ledger = Ledger(store.accounts, spread=random.random)
    with pytest.raises(StoreUnavailable):
        await ledger.start()
    assert await ledger.close(1)


# -- defects ------------------------------------------------------------------------------------


class Broken(Reserve, frozen=True, kw_only=True):
    """A step with a defect."""

    def apply(self, accounts: Accounts, now: float) -> StepResult[Held | Denied]:
        raise ZeroDivisionError


def broken(id: str) -> Broken:
    whole = reserve(id)
    return Broken(**{name: getattr(whole, name) for name in whole.__struct_fields__})


async def test_a_defect_in_one_step_stops_no_other(ledger: Ledger, sqlite: SqliteStore) -> None:
    outcomes = await asyncio.gather(
        *(
            ledger.reserve(broken(f"r{number}") if number % 3 else reserve(f"r{number}"))
            for number in range(9)
        ),
        return_exceptions=True,
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Held, InternalError, InternalError] * 3
    assert len((await account(sqlite.accounts))[0].holds) == 3
    assert not ledger.unwritten


async def test_a_defect_of_the_store_does_not_end_the_work(
    ledger: Ledger, store: FaultyStore
) -> None:
    store.defects = [ZeroDivisionError()]
    assert isinstance(await ledger.reserve(reserve("r1")), Held)
    assert isinstance(await ledger.reserve(reserve("r2")), Held)


async def test_a_defect_of_an_observer_does_not_end_the_work(store: FaultyStore) -> None:
    class Defective(LedgerObserver):
        def accounts_seen(self, accounts: Mapping[str, Account]) -> None:
            raise ZeroDivisionError

    async with running(store.accounts, observer=Defective()) as ledger:
        for number in range(3):
            assert isinstance(await ledger.reserve(reserve(f"r{number}")), Held)


async def test_a_defect_that_nobody_waits_for_is_no_noise(
    ledger: Ledger, store: FaultyStore
) -> None:
    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
    store.seconds = 0.02
    caller = asyncio.create_task(ledger.reserve(broken("r1")))
    await ledger.finish(cast(Any, broken("r2")))
    with pytest.raises(InternalError):
        await caller
    del caller
    await written(ledger)
    assert noise == []
