"""A killed gateway forgets no money: what was sent upstream when it died is charged, once.

Leases are short here (the upstream's timeout plus 5 s), so that the sweep can be waited for.
"""

import asyncio
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.config.settings import KeySettings
from gateway.config.store_url import parse_store_url
from gateway.core.model import Limits, Team
from gateway.proxy.context import LEASE_SLACK_SECONDS
from gateway.quota.account import Account, team_account
from gateway.quota.ledger import SWEEP_SECONDS, Ledger
from gateway.quota.steps import Denied, Held, Settle
from gateway.server.startup import load_pepper
from gateway.stores.sqlite import SqliteStore
from gateway.tenants.changes import Actor
from gateway.tenants.operations import create_key
from gateway.upstream.sandbox import Sandbox
from tests.support.directory import put_teams
from tests.support.money import (
    PRICE,
    TOO_MUCH_AT_ONCE,
    USED_UP,
    assert_books,
    assert_spent,
    drawing,
    tally,
    until,
    until_closed,
)
from tests.support.process import GatewayProcess, running_process
from tests.support.quota_steps import reserve
from tests.support.rig import FLAT, running_rig

TIMEOUT_SECONDS = 4.0
QUICK = {
    "UPSTREAM_CONNECT_SECONDS": "1",
    "UPSTREAM_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
}
SWEPT_SECONDS = TIMEOUT_SECONDS + LEASE_SLACK_SECONDS + 5
"""After its reservation, when the hold of a dead process is charged at the latest."""


class Books:
    """A sandbox, and the database of the gateways before it, seen from outside."""

    def __init__(self, folder: Path, sandbox: Sandbox, store: SqliteStore) -> None:
        self.folder = folder
        place = parse_store_url("sqlite:/nowhere")
        self.pepper = load_pepper(KeySettings(pepper_file=str(folder / "pepper")), place)
        self.sandbox = sandbox
        self.store = store

    @property
    def drawn(self) -> int:
        """Images that the upstream has drawn."""
        return self.sandbox.counts.images_drawn

    async def key(self, limits: Limits) -> str:
        """A key of a team with these limits."""
        await put_teams(self.store.directory, [Team(name="team", limits=limits)])
        _, text = await create_key(
            self.store.directory,
            team="team",
            name="test",
            lifetime=None,
            pepper=self.pepper,
            by=Actor("a test", time.time()),
            entropy=secrets.token_bytes,
        )
        return text

    async def account(self) -> Account:
        """The team's account."""
        return (await self.store.accounts.load([team_account("team")])).accounts[0][0]

    async def is_closed(self) -> bool:
        """Whether nothing is held any more."""
        return not (await self.account()).holds

    async def assert_recorded(self, images: int) -> None:
        """Account and usage agree that the team has bought this, and nothing is held."""
        assert_spent(await self.account(), images, images * PRICE)
        (row,) = await self.store.usage.report((), None, None)
        assert (row.images_bought, row.cost) == (images, images * PRICE)


@asynccontextmanager
async def open_books(folder: Path, latency: float) -> AsyncIterator[Books]:
    sandbox = Sandbox(drawing(latency=latency))
    await sandbox.start()
    try:
        async with SqliteStore(folder / "gateway.db") as store:
            yield Books(folder, sandbox, store)
    finally:
        await sandbox.stop()


def asking(gateway: GatewayProcess, key: str, number: int) -> list[asyncio.Task[object]]:
    """So many requests under way, whose gateway may die."""

    async def ask() -> object:
        try:
            return await gateway.generate(key)
        except aiohttp.ClientError:
            return None

    return [asyncio.create_task(ask()) for _ in range(number)]


# -- killed with calls upstream -----------------------------------------------------------------


@pytest.mark.alone
async def test_the_other_process_charges_what_a_killed_one_had_upstream(tmp_path: Path) -> None:
    limits = Limits(images_per_day=150, concurrent_requests=110)
    async with (
        running_rig(tmp_path, FLAT, drawing(latency=1), **QUICK) as rig,
        running_process(tmp_path, rig.sandbox.url, FLAT, **QUICK) as other,
    ):
        key = await rig.key(limits=limits)
        assert tally([await rig.generate(key, None)]) == {200: 1}
        lost = asking(other, key, 100)
        await until(lambda: rig.sandbox.counts.asked == 101)
        started = time.monotonic()
        await other.kill()
        assert await asyncio.gather(*lost) == [None] * 100
        # Still held: nobody may use their slots, or their images, for now.
        got = await asyncio.gather(*(rig.generate(key, None) for _ in range(30)))
        assert tally(got) == {200: 10, TOO_MUCH_AT_ONCE: 20}
        await until_closed(rig, seconds=SWEPT_SECONDS)
        assert time.monotonic() - started > TIMEOUT_SECONDS
        assert rig.sandbox.counts.images_drawn == 111
        await assert_books(rig, "team", 111, 111 * PRICE)
        assert (await rig.usage()).images_unknown == 100
        got = await asyncio.gather(*(rig.generate(key, None) for _ in range(50)))
        assert tally(got) == {200: 39, USED_UP: 11}
        await assert_books(rig, "team", 150, 150 * PRICE)


@pytest.mark.alone
async def test_the_only_process_killed_and_started_again_remembers_everything(
    tmp_path: Path,
) -> None:
    async with open_books(tmp_path, latency=1) as books:
        async with running_process(tmp_path, books.sandbox.url, FLAT, **QUICK) as first:
            key = await books.key(Limits(images_per_day=120, concurrent_requests=100))
            await asyncio.gather(*asking(first, key, 7))
            await books.assert_recorded(7)
            lost = asking(first, key, 100)
            await until(lambda: books.sandbox.counts.asked == 107)
            await first.kill()
            await asyncio.gather(*lost)
        async with running_process(tmp_path, books.sandbox.url, FLAT, **QUICK) as second:
            assert (await second.generate(key)).error == TOO_MUCH_AT_ONCE
            await until(books.is_closed, SWEPT_SECONDS)
            assert books.drawn == 107
            await books.assert_recorded(107)
            got = await asyncio.gather(*(second.generate(key) for _ in range(20)))
            assert tally(got) == {200: 13, USED_UP: 7}
            await books.assert_recorded(120)


async def test_holds_that_ran_out_while_nobody_lived_are_swept_at_the_start(
    tmp_path: Path,
) -> None:
    async with open_books(tmp_path, latency=1) as books:
        async with running_process(tmp_path, books.sandbox.url, FLAT, **QUICK) as first:
            key = await books.key(Limits(images_per_day=10))
            lost = asking(first, key, 4)
            await until(lambda: books.sandbox.counts.asked == 4)
            await first.kill()
            await asyncio.gather(*lost)
        await asyncio.sleep(TIMEOUT_SECONDS + LEASE_SLACK_SECONDS)
        assert len((await books.account()).holds) == 4
        async with running_process(tmp_path, books.sandbox.url, FLAT, **QUICK):
            await until(books.is_closed, SWEEP_SECONDS / 2)
            await books.assert_recorded(4)


async def test_a_frozen_process_that_wakes_up_after_the_sweep_charges_nothing_twice(
    tmp_path: Path,
) -> None:
    limits = Limits(images_per_day=50, concurrent_requests=20)
    async with (
        running_rig(tmp_path, FLAT, drawing(latency=1), **QUICK) as rig,
        running_process(tmp_path, rig.sandbox.url, FLAT, **QUICK) as other,
    ):
        key = await rig.key(limits=limits)
        late = asking(other, key, 20)
        await until(lambda: rig.sandbox.counts.asked == 20)
        other.send(signal.SIGSTOP)
        await until_closed(rig, seconds=SWEPT_SECONDS)
        assert (await rig.usage()).images_unknown == 20
        assert (await rig.generate(key, None)).status == 200
        other.send(signal.SIGCONT)
        assert None not in await asyncio.gather(*late)
        await assert_books(rig, "team", 21, 21 * PRICE)
        assert rig.sandbox.counts.images_drawn == 21


async def test_killed_at_any_moment_under_load(tmp_path: Path) -> None:
    """Between reservation and call, call and settlement, in the middle of a write."""
    chance = random.Random(11)
    answered = 0
    async with open_books(tmp_path, latency=0.03) as books:
        key = ""
        for _ in range(8):
            async with running_process(tmp_path, books.sandbox.url, FLAT, **QUICK) as gateway:
                key = key or await books.key(Limits(images_per_day=1_000_000))
                tasks: set[asyncio.Task[object]] = set()
                ends = time.monotonic() + chance.uniform(0.2, 0.8)
                while time.monotonic() < ends:
                    tasks.update(asking(gateway, key, 10))
                    await asyncio.sleep(0.02)
                account = await books.account()
                assert account.day.images + account.day.held_images >= books.drawn
                await gateway.kill()
                answered += sum(got is not None for got in await asyncio.gather(*tasks))
        await asyncio.sleep(0.2)  # the last calls draw on without their gateway
        account = await books.account()
        assert account.day.images + account.day.held_images >= books.drawn >= answered > 0
        left = account.day.held_images
        async with running_process(tmp_path, books.sandbox.url, FLAT, **QUICK):
            await until(books.is_closed, SWEPT_SECONDS)
        recorded = (await books.account()).day.images
        assert recorded == account.day.images + left >= books.drawn
        await books.assert_recorded(recorded)


# -- ordinary restarts --------------------------------------------------------------------------


async def test_a_restart_keeps_what_was_used(tmp_path: Path) -> None:
    limits = Limits(images_per_day=10, cost_per_month=9 * PRICE, requests_per_minute=9)
    async with running_rig(tmp_path, FLAT) as rig:
        key = await rig.key(limits=limits)
        assert (await rig.generate(key, None, n=4)).status == 200
    async with running_rig(tmp_path, FLAT) as rig:
        await assert_books(rig, "team", 4, 4 * PRICE)
        assert (await rig.generate(key, None, n=4)).status == 200
        assert (await rig.generate(key, None, n=2)).error == USED_UP
        assert sum(count for _, count in (await rig.account()).minute) == 2


async def test_sigterm_settles_what_is_under_way(tmp_path: Path) -> None:
    async with open_books(tmp_path, latency=1) as books:
        async with running_process(tmp_path, books.sandbox.url, FLAT, **QUICK) as gateway:
            key = await books.key(Limits(images_per_day=20))
            asked = asking(gateway, key, 20)
            await until(lambda: books.sandbox.counts.asked == 20)
            assert await gateway.terminate() == 0
            assert None not in await asyncio.gather(*asked)
        await books.assert_recorded(20)


# -- the calendar -------------------------------------------------------------------------------

MIDNIGHT = 1_772_323_200.0
"""2026-03-01 00:00:00 UTC: the end of a day and of a month."""


class Clock:
    """Both clocks of a store, set by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def ledger_at(
    folder: Path, clock: Clock, monotonic: Callable[[], float] | None = None
) -> AsyncIterator[tuple[Ledger, SqliteStore]]:
    """A ledger over a store by this clock: the whole gateway has no way to move its own."""
    async with SqliteStore(
        folder / "gateway.db", wall=clock, monotonic=monotonic or clock
    ) as store:
        ledger = Ledger(store.accounts, spread=lambda: 0.5)
        await ledger.start()
        yield ledger, store
        assert await ledger.close(5)


async def buy(ledger: Ledger, id: str, limits: Limits, images: int = 1) -> Held | Denied:
    held = await ledger.reserve(reserve(id, limits=limits, gateway_limits=limits, images=images))
    if isinstance(held, Held):
        await ledger.finish(Settle(id=id, team="red", images=images, cost=images * PRICE))
    return held


@pytest.mark.parametrize(
    "limits",
    [
        Limits(images_per_day=2),
        Limits(images_per_month=2),
        Limits(cost_per_day=2 * PRICE),
        Limits(cost_per_month=2 * PRICE),
    ],
)
async def test_a_budget_opens_at_midnight_and_not_before(tmp_path: Path, limits: Limits) -> None:
    clock = Clock(MIDNIGHT - 100)
    async with ledger_at(tmp_path, clock) as (ledger, _):
        assert isinstance(await buy(ledger, "1", limits, 2), Held)
        clock.now = MIDNIGHT - 0.001
        refused = await buy(ledger, "2", limits)
        assert isinstance(refused, Denied)
        assert refused.refusal.resets_at == MIDNIGHT
        clock.now = MIDNIGHT
        assert isinstance(await buy(ledger, "3", limits, 2), Held)
        assert isinstance(await buy(ledger, "4", limits), Denied)


async def test_a_call_over_midnight_belongs_to_the_day_that_admitted_it(tmp_path: Path) -> None:
    clock, limits = Clock(MIDNIGHT - 10), Limits(images_per_day=2)
    async with ledger_at(tmp_path, clock) as (ledger, store):
        late = reserve("late", limits=limits, gateway_limits=limits, images=2)
        assert isinstance(await ledger.reserve(late), Held)
        clock.now = MIDNIGHT + 10
        assert isinstance(await buy(ledger, "new", limits, 2), Held)
        await ledger.finish(Settle(id="late", team="red", images=2, cost=2 * PRICE))
        assert isinstance(await buy(ledger, "more", limits), Denied)
        rows = await store.usage.report(("day",), None, None)
        assert [(row.group[0], row.images_bought) for row in rows] == [
            ("2026-02-28", 2),
            ("2026-03-01", 2),
        ]
        for account, _ in (await store.accounts.load([team_account("red"), "gateway"])).accounts:
            assert (account.day.images, account.day.held_images) == (2, 0)


async def test_a_clock_set_back_over_a_restart_opens_no_budget_twice(tmp_path: Path) -> None:
    limits = Limits(images_per_day=2)
    async with ledger_at(tmp_path, Clock(MIDNIGHT + 100)) as (ledger, _):
        assert isinstance(await buy(ledger, "1", limits, 2), Held)
    async with ledger_at(tmp_path, Clock(MIDNIGHT - 100)) as (ledger, _):
        assert isinstance(await buy(ledger, "2", limits), Denied)


async def test_a_dead_process_hold_of_yesterday_is_charged_to_yesterday(tmp_path: Path) -> None:
    clock, limits = Clock(MIDNIGHT - 10), Limits(images_per_day=2)
    async with ledger_at(tmp_path, clock) as (ledger, _):
        hold = reserve("lost", limits=limits, gateway_limits=limits, images=2)
        assert isinstance(await ledger.reserve(hold), Held)
    clock.now = MIDNIGHT + 1_000
    async with ledger_at(tmp_path, clock) as (ledger, store):

        async def is_swept() -> bool:
            return not (await store.accounts.load([team_account("red")])).accounts[0][0].holds

        await until(is_swept, 5)
        assert isinstance(await buy(ledger, "today", limits, 2), Held)
        rows = await store.usage.report(("day",), None, None)
        assert [(row.group[0], row.images_unknown) for row in rows] == [
            ("2026-02-28", 2),
            ("2026-03-01", 0),
        ]
