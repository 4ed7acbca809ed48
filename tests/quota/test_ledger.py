"""The ledger over the embedded store, behind one that fails in every way it can."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping
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
from gateway.quota.operations import Repeat
from gateway.quota.step import NO_RECORDS, Accounts, Records, StepResult
from gateway.quota.steps import Denied, Held, Release, Reserve, Settle, Taken
from gateway.quota.store import NO_OBSERVER, AccountStore, LedgerObserver
from gateway.stores.port import Store
from gateway.stores.redis import RedisStore
from gateway.stores.sqlite import SqliteStore
from tests.support.clocks import Clock
from tests.support.faulty_store import FaultyStore
from tests.support.quota_steps import release, reserve, settle, wish
from tests.support.redis import running_redis
from tests.support.steps import until

HUNDRED = Limits(images_per_day=100)


class Bench(FaultyStore):
    """A store with faults in front of a real one, and a ledger over it."""

    def __init__(self, real: Store) -> None:
        super().__init__(real)
        self.real = real
        self.ledger = ledger_over(self.accounts)

    async def load(self, name: str) -> tuple[Account, int]:
        """An account and its version, as the real store has them."""
        return (await self.real.accounts.load([name])).accounts[0]

    async def team(self, name: str = "red") -> Account:
        return (await self.load(team_account(name)))[0]

    async def report(self) -> UsageRow:
        """All usage as one row."""
        (row,) = await self.real.usage.report([], None, None)
        return row

    async def written(self, seconds: float = 10) -> None:
        """Wait until no step waits to be written."""
        await until(lambda: not self.ledger.unwritten, seconds)

    async def reserve_all(self, steps: Iterable[Reserve]) -> tuple[int, int]:
        """Reserve at the same time. Returns how many were held and refused."""
        outcomes = await asyncio.gather(*map(self.ledger.reserve, steps))
        held = sum(isinstance(outcome, Held) for outcome in outcomes)
        return held, len(outcomes) - held

    async def settle_all(self, ids: Iterable[str]) -> None:
        await asyncio.gather(*(self.ledger.finish(settle(id)) for id in ids))

    async def start_finishing(self, step: Settle | Release) -> "asyncio.Task[None]":
        finishing = asyncio.create_task(self.ledger.finish(step))
        await asyncio.sleep(0.05)
        return finishing


def ledger_over(store: AccountStore, observer: LedgerObserver = NO_OBSERVER) -> Ledger:
    return Ledger(store, spread=random.random, observer=observer)


async def cancel_all(tasks: Iterable["asyncio.Task[Any]"]) -> list[Any]:
    """Cancel the tasks. Returns their results or failures."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def running(ledger: Ledger) -> AsyncIterator[Ledger]:
    """A ledger at work that ends without waiting for its steps, as in a process that dies."""
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close(0)


@pytest.fixture
async def wall() -> Clock:
    return Clock(time.time)


@pytest.fixture
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, wall: Clock
) -> AsyncIterator[Store]:
    """SQLite, unless a test's parameter is "redis"."""
    if getattr(request, "param", "sqlite") == "sqlite":
        async with SqliteStore(tmp_path / "gateway.db", wall=wall) as sqlite:
            yield sqlite
        return
    async with (
        running_redis(tmp_path / "redis") as server,
        RedisStore(parse_store_url(server.url)) as redis,
    ):
        yield redis


@pytest.fixture
async def bench(store: Store) -> AsyncIterator[Bench]:
    bench = Bench(store)
    async with running(bench.ledger):
        yield bench


@pytest.fixture
def ledger(bench: Bench) -> Ledger:
    return bench.ledger


async def test_a_store_without_its_data_is_not_taken_for_one_that_is_away(
    bench: Bench, ledger: Ledger
) -> None:
    bench.defects = [StoreLost() for _ in range(1_000)]
    with pytest.raises(StoreLost):
        await ledger.reserve(reserve("r1"), patience=0.2)
    bench.defects.clear()
    assert isinstance(await ledger.reserve(reserve("r2")), Held)
    bench.leave()
    with pytest.raises(StoreUnavailable) as away:
        await ledger.reserve(reserve("r3"), patience=0.2)
    assert away.type is StoreUnavailable


# -- accounts that cannot be written ------------------------------------------------------------


@pytest.mark.parametrize("store", ["sqlite", "redis"], indirect=True)
@pytest.mark.parametrize("cost", [10**19, 10**30], ids=["for sums", "for accounts"])
async def test_an_account_that_cannot_be_written_stops_no_other(
    bench: Bench, ledger: Ledger, cost: int
) -> None:
    for team in ("good", "bad", "fine"):
        assert isinstance(await ledger.reserve(reserve(team, team)), Held)
    bench.lag = 0.2  # all of these in one batch
    first = asyncio.create_task(ledger.reserve(reserve("other", "other")))
    await until(lambda: bench.asked["swap"] > 3)
    bad = asyncio.create_task(ledger.finish(settle("bad", "bad", cost=cost)))
    await asyncio.gather(first, *(ledger.finish(settle(team, team)) for team in ("good", "fine")))
    bench.lag = 0
    for team in ("good", "fine"):
        account = await bench.team(team)
        assert (account.day.images, account.holds) == (1, {})
    await bad
    await until(lambda: ledger.unwritten == 1)
    account = await bench.team("bad")
    assert (account.day.images, set(account.holds)) == (0, {"bad"})


async def test_purchases_of_an_account_that_cannot_be_written_are_refused(
    bench: Bench, ledger: Ledger
) -> None:
    with capture_logs() as lines:
        for number in range(5):
            with pytest.raises(StoreUnavailable):
                await ledger.reserve(reserve(f"bad{number}", "bad", cost=10**30))
            assert isinstance(await ledger.reserve(reserve(f"good{number}")), Held)
    assert [line["event"] for line in lines] == ["batch failed", "account cannot be written"]
    assert await bench.load(team_account("bad")) == (EMPTY, 0)
    assert not ledger.unwritten


async def test_an_outcome_that_could_not_be_written_is_tried_again(
    bench: Bench, ledger: Ledger
) -> None:
    await ledger.reserve(reserve())
    bench.defects = [OverflowError("one batch"), OverflowError("and its account")]
    await ledger.finish(settle())
    await bench.written(SWEEP_SECONDS + 5)
    assert (await bench.team()).day.images == 1


# -- exactness ----------------------------------------------------------------------------------


async def test_a_thousand_at_once_on_a_hundred_images(bench: Bench) -> None:
    """Steps that wait are written together."""
    steps = [reserve(f"r{number}", limits=HUNDRED) for number in range(1000)]
    assert await bench.reserve_all(steps) == (100, 900)
    account = await bench.team()
    assert (account.day.held_images, len(account.holds)) == (100, 100)
    await bench.settle_all(account.holds)
    account = await bench.team()
    assert (account.day.images, account.day.held_images, account.holds) == (100, 0, {})
    assert (await bench.report()).images_bought == 100
    assert bench.asked["swap"] < 10


async def test_two_processes_share_a_budget_exactly_and_neither_starves(
    tmp_path: Path, bench: Bench
) -> None:
    """A starved reservation would raise StoreUnavailable."""

    async def buy(ledger: Ledger, id: str) -> bool:
        await asyncio.sleep(random.random())
        outcome = await ledger.reserve(reserve(id, limits=HUNDRED))
        if isinstance(outcome, Held):
            await ledger.finish(settle(id))
        return isinstance(outcome, Held)

    async with (
        SqliteStore(tmp_path / "gateway.db") as other,
        running(ledger_over(other.accounts)) as second,
    ):
        bought = await asyncio.gather(
            *(buy(bench.ledger, f"a{number}") for number in range(200)),
            *(buy(second, f"b{number}") for number in range(200)),
        )
    assert sum(bought) == 100
    assert (await bench.report()).images_bought == 100
    assert (await bench.team()).holds == {}


# -- lost replies -------------------------------------------------------------------------------


async def test_a_reservation_whose_reply_was_lost_is_held_once(
    bench: Bench, ledger: Ledger
) -> None:
    bench.losing = 2
    limits = Limits(images_per_day=4, requests_per_minute=1, concurrent_requests=1)
    assert isinstance(await ledger.reserve(reserve(images=4, limits=limits)), Held)
    account, version = await bench.load(team_account("red"))
    # Each further swap raised the version: see race 2.
    assert (account.day.held_images, len(account.holds), version) == (4, 1, 3)
    assert [count for _, count in account.minute] == [1]


@pytest.mark.parametrize(
    ("unknown", "images"), [(False, 1), (True, 1), (None, 0)], ids=["bought", "unknown", "released"]
)
async def test_an_outcome_whose_reply_was_lost_counts_once(
    bench: Bench, ledger: Ledger, unknown: bool | None, images: int
) -> None:
    held = await ledger.reserve(reserve())
    assert isinstance(held, Held)
    settlement = reserve().settle(held.at, 1, 40_000, unknown=bool(unknown))
    bench.losing = 1
    ending: Settle | Release = release() if unknown is None else settlement
    await ledger.finish(ending)  # type: ignore[misc]
    account, version = await bench.load(team_account("red"))
    assert (account.day.images, account.day.held_images, version) == (images, 0, 3)
    row = await bench.report()
    assert (row.requests, row.images_bought, row.cost) == (1, images, images * 40_000)


# -- giving up ----------------------------------------------------------------------------------


async def test_a_repeat_is_found_however_late_the_store_replies(
    bench: Bench, ledger: Ledger
) -> None:
    first = reserve(wish=wish())
    held = await ledger.reserve(first)
    assert isinstance(held, Held)
    await ledger.finish(first.settle(held.at, 1, 40_000, unknown=True))
    bench.lag = 0.2
    taken = await ledger.reserve(reserve("r2", wish=wish()))
    assert isinstance(taken, Taken)
    assert isinstance(taken.found, Repeat)


async def test_a_request_that_waited_for_the_store_is_no_repeat_of_what_ended_meanwhile(
    bench: Bench, ledger: Ledger
) -> None:
    first = reserve(wish=wish())
    held = await ledger.reserve(first)
    assert isinstance(held, Held)
    bench.leave()
    asyncio.get_running_loop().call_later(0.05, bench.come_back)
    _, second = await asyncio.gather(
        ledger.finish(first.settle(held.at, 1, 40_000, unknown=True)),
        ledger.reserve(reserve("r2", wish=wish())),
    )
    assert isinstance(second, Held)


@pytest.mark.parametrize("former", [0, 1])
@pytest.mark.parametrize("thaws_first", [False, True], ids=["too late", "taken back"])
async def test_a_frozen_swap_of_a_cancelled_reservation_leaves_no_hold(
    bench: Bench, ledger: Ledger, former: int, thaws_first: bool
) -> None:
    for number in range(former):
        await ledger.reserve(reserve(f"former{number}"))
    bench.freezing, bench.leaving = 1, True
    caller = asyncio.create_task(ledger.reserve(reserve()))
    await until(lambda: bench.frozen == 1)
    assert [type(end) for end in await cancel_all([caller])] == [asyncio.CancelledError]
    if thaws_first:
        assert await bench.thaw() == [True]
        assert "r1" in (await bench.team()).holds
    bench.come_back()
    await bench.written()
    assert await bench.thaw() == [False] * (not thaws_first)
    account, version = await bench.load(team_account("red"))
    assert "r1" not in account.holds
    assert (account.day.held_images, version) == (former, former + 1 + thaws_first)
    assert await bench.real.usage.report([], None, None) == []


async def test_a_frozen_swap_does_not_undo_later_ones(bench: Bench) -> None:
    bench.freezing = 1
    steps = [reserve(f"r{number}") for number in range(50)]
    assert await bench.reserve_all(steps) == (50, 0)
    await bench.settle_all(step.id for step in steps)
    assert await bench.thaw() == [False]
    account = await bench.team()
    assert (account.day.images, account.holds) == (50, {})


async def test_reservations_fail_in_time_and_leave_no_hold_while_the_store_is_away(
    bench: Bench, ledger: Ledger
) -> None:
    bench.leave("load", "swap")
    started = time.monotonic()
    outcomes = await asyncio.gather(
        *(ledger.reserve(reserve(f"r{number}")) for number in range(50)), return_exceptions=True
    )
    assert PATIENCE_SECONDS - 0.1 < time.monotonic() - started < PATIENCE_SECONDS + 5
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    bench.come_back()
    await bench.written()
    assert await bench.team() == EMPTY


async def test_cancelled_reservations_leave_no_hold(bench: Bench, ledger: Ledger) -> None:
    bench.seconds = 0.005
    for pause in (0.0, 0.001, 0.004, 0.01, 0.02):
        ids = [f"r{number}-{pause}" for number in range(20)]
        callers = [asyncio.create_task(ledger.reserve(reserve(id))) for id in ids]
        await asyncio.sleep(pause)
        for id, end in zip(ids, await cancel_all(callers), strict=True):
            if isinstance(end, Held):
                await ledger.finish(release(id))
        await bench.written()
        assert (await bench.team()).holds == {}


async def test_steps_given_up_in_an_outage_do_not_pile_up(bench: Bench, ledger: Ledger) -> None:
    bench.leave()
    for turn in range(5):
        steps = [reserve(f"r{turn}-{number}") for number in range(400)]
        callers = [asyncio.create_task(ledger.reserve(step)) for step in steps]
        await asyncio.sleep(0.06)
        await cancel_all(callers)
    assert ledger.unwritten <= 2 * MAX_BATCH
    bench.come_back()
    assert isinstance(await ledger.reserve(reserve("after")), Held)


# -- outcomes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_outcome_is_written_although_its_caller_no_longer_waits(
    bench: Bench, ledger: Ledger, cancelled: bool
) -> None:
    await ledger.reserve(reserve())
    bench.leave()
    started = time.monotonic()
    finishing = await bench.start_finishing(settle())
    if cancelled:
        finishing.cancel()
    await finishing
    if not cancelled:
        assert PATIENCE_SECONDS - 0.1 < time.monotonic() - started < PATIENCE_SECONDS + 5
    assert ledger.unwritten == 1
    bench.come_back()
    await bench.written()
    assert (await bench.report()).images_bought == 1


async def test_closing_waits_for_steps_and_only_for_them(bench: Bench, ledger: Ledger) -> None:
    await ledger.reserve(reserve())
    bench.leave()
    finishing = await bench.start_finishing(settle())
    asyncio.get_running_loop().call_later(0.3, bench.come_back)
    assert await ledger.close(5)
    await finishing
    assert (await bench.report()).images_bought == 1
    async with asyncio.timeout(4):
        assert await ledger.close(5)


async def test_closing_does_not_wait_for_ever(bench: Bench, ledger: Ledger) -> None:
    await ledger.reserve(reserve())
    bench.leave()
    finishing = await bench.start_finishing(settle())
    assert not await ledger.close(0.2)
    finishing.cancel()


# -- the sweep ----------------------------------------------------------------------------------


async def test_the_hold_of_a_dead_process_is_swept_by_another(bench: Bench, ledger: Ledger) -> None:
    async with running(ledger_over(bench.accounts)) as dead:
        await dead.reserve(reserve(images=4, lease=0.3))

    async def is_swept() -> bool:
        return not (await bench.team()).holds

    await until(is_swept, 0.3 + 5)
    row = await bench.report()
    assert (row.images_bought, row.images_unknown) == (4, 4)
    await ledger.finish(settle(images=3))
    await ledger.finish(settle(images=2))
    row = await bench.report()
    assert (row.requests, row.images_bought, row.images_unknown) == (1, 3, 0)
    assert (await bench.team()).day.images == 3


async def test_starting_sweeps_the_holds_that_a_crash_left(bench: Bench, wall: Clock) -> None:
    for team in ("red", "blue"):
        await bench.ledger.reserve(reserve(team, team, 2, gateway_limits=HUNDRED))
    await bench.ledger.close(0)
    for seconds, holds in ((304, 1), (2, 0)):
        wall.ahead += seconds
        async with running(ledger_over(bench.accounts)) as ledger:
            await until(lambda: not ledger.unwritten)
        assert [len((await bench.team(team)).holds) for team in ("red", "blue")] == [holds] * 2
    assert (await bench.load(GATEWAY))[0].day.images == 4
    assert (await bench.report()).images_unknown == 4


async def test_sweeps_do_not_pile_up_while_nothing_can_be_written(
    bench: Bench, ledger: Ledger, wall: Clock
) -> None:
    await ledger.reserve(reserve())
    bench.leave("swap")
    wall.ahead += 400
    await until(lambda: bench.asked["due"] >= 3, 2 * SWEEP_SECONDS + 1)
    await asyncio.sleep(0.1)
    assert ledger.unwritten == 1
    bench.come_back()
    await bench.written()
    assert (await bench.team()).holds == {}


async def test_starting_without_a_store_fails(bench: Bench) -> None:
    bench.leave()
    ledger = ledger_over(bench.accounts)
    with pytest.raises(StoreUnavailable):
        await ledger.start()
    assert await ledger.close(1)


# -- observers and defects ----------------------------------------------------------------------


class Seen(LedgerObserver):
    """Keeps the accounts, then fails if a test wants that."""

    accounts: Mapping[str, Account] = {}
    failure: Exception | None = None

    def accounts_seen(self, accounts: Mapping[str, Account]) -> None:
        self.accounts = accounts
        if self.failure is not None:
            raise self.failure


async def test_written_accounts_are_reported_and_a_defective_observer_stops_nothing(
    bench: Bench,
) -> None:
    seen = Seen()
    async with running(ledger_over(bench.accounts, seen)) as ledger:
        await ledger.reserve(reserve(images=3))
        assert seen.accounts[team_account("red")].day.held_images == 3
        seen.failure = ZeroDivisionError()
        for number in range(3):
            assert isinstance(await ledger.reserve(reserve(f"further{number}")), Held)


class Broken(Reserve, frozen=True, kw_only=True):
    """A step with a defect."""

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[Held | Denied | Taken]:
        raise ZeroDivisionError


def broken(id: str) -> Broken:
    whole = reserve(id)
    return Broken(**{name: getattr(whole, name) for name in whole.__struct_fields__})


async def test_a_defect_in_one_step_stops_no_other(bench: Bench, ledger: Ledger) -> None:
    steps = [broken(f"r{number}") if number % 3 else reserve(f"r{number}") for number in range(9)]
    outcomes = await asyncio.gather(*map(ledger.reserve, steps), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Held, InternalError, InternalError] * 3
    assert len((await bench.team()).holds) == 3
    assert not ledger.unwritten


async def test_a_defect_of_the_store_does_not_end_the_work(bench: Bench, ledger: Ledger) -> None:
    bench.defects = [ZeroDivisionError()]
    assert await bench.reserve_all([reserve("r1"), reserve("r2")]) == (2, 0)


async def test_a_defect_that_nobody_waits_for_is_no_noise(bench: Bench, ledger: Ledger) -> None:
    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
    bench.seconds = 0.02
    caller = asyncio.create_task(ledger.reserve(broken("r1")))
    await ledger.finish(cast(Any, broken("r2")))
    with pytest.raises(InternalError):
        await caller
    del caller
    await bench.written()
    assert noise == []
