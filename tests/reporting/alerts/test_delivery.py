"""Delivery by itself: several tellers over one store that is away at times, and a real receiver."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.config.settings import Settings
from gateway.config.webhooks import AlertSettings, Webhook
from gateway.core.errors import UpstreamAuth, UpstreamFailed
from gateway.core.model import Limits, Team
from gateway.core.periods import PeriodUsage, day_of, month_of
from gateway.core.secret import Secret
from gateway.quota.account import GATEWAY, Account, team_account
from gateway.reporting.alerts.delivery import (
    AT_ONCE,
    GIVEN_UP_SECONDS,
    SHOWN_SECONDS,
    Deliverer,
    Delivery,
    deliveries,
)
from gateway.reporting.alerts.http import HttpWebhooks
from gateway.reporting.alerts.watch import Alerts
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.request_record import RequestRecord
from gateway.tenants.directory import Directory
from tests.support.directory import put_teams
from tests.support.faulty_store import FaultyStore
from tests.support.money import until
from tests.support.receiver import Receiver, running_receiver

QUICK = (0.05, 0.05)


class Tellers:
    """Several of them, each noticing what a test shows to it."""

    def __init__(self, store: SqliteStore, receiver: Receiver) -> None:
        self.store = store
        self.faulty = FaultyStore(store)
        self.receiver = receiver
        self.metrics = Metrics()
        self.directory: Directory
        self.all: list[Alerts] = []
        webhook = Webhook(name="ops", url=Secret(receiver.url))
        self.settings = Settings(alerts=AlertSettings(webhooks={"ops": webhook}))

    async def see(self, images: int, *names: str) -> None:
        """Show all of them that these accounts (red's without any) have spent so many images."""
        now = time.time()
        account = Account(PeriodUsage(day_of(now), images), PeriodUsage(month_of(now), images))
        for teller in self.all:
            teller.accounts_seen(dict.fromkeys(names or (team_account("red"),), account))

    async def states(self) -> list[Delivery]:
        return deliveries(await self.store.claims.current())

    async def has(self, state: str) -> bool:
        return any(telling.state == state for telling in await self.states())

    def counted(self, result: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "gateway_alerts_total", {"kind": "json", "result": result}
        )


@asynccontextmanager
async def running(folder: Path, count: int = 1) -> AsyncIterator[Tellers]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(running_receiver())
        store = await stack.enter_async_context(SqliteStore(folder / "gateway.db"))
        await put_teams(store.directory, [Team(name="red", limits=Limits(images_per_day=10))])
        tellers = Tellers(store, receiver)
        directory = Directory(
            store.directory, pepper=b"p", wall=time.time, monotonic=time.monotonic
        )
        await directory.start()
        tellers.directory = directory
        stack.push_async_callback(directory.close)
        for number in range(count):
            webhooks = HttpWebhooks()
            stack.push_async_callback(webhooks.close)
            deliverer = Deliverer(
                tellers.faulty.claims,
                webhooks,
                lambda: tellers.settings,
                secret=b"secret",
                owner=f"gateway {number}",
                wall=time.time,
                spread=lambda: 0.5,
                pauses=QUICK,
                observer=tellers.metrics,
            )
            alerts = Alerts(
                store.usage, directory, lambda: tellers.settings, deliverer, wall=time.time
            )
            await alerts.start()
            stack.push_async_callback(alerts.close)
            tellers.all.append(alerts)
        yield tellers


@pytest.fixture
async def tellers(tmp_path: Path) -> AsyncIterator[Tellers]:
    async with running(tmp_path) as found:
        yield found


async def test_one_of_many_that_notice_the_same_tells_it(tmp_path: Path) -> None:
    async with running(tmp_path, 5) as tellers:
        for _ in range(3):
            await tellers.see(8)
            await tellers.receiver.until(1)
            await until(lambda: tellers.has("sent"))
        await tellers.see(10)
        await tellers.receiver.until(2)
    assert [each.json["percent"] for each in tellers.receiver.messages] == [80, 100]


async def test_nothing_is_told_that_cannot_be_claimed(tellers: Tellers) -> None:
    tellers.faulty.leave("claim", "complete_claim")
    await tellers.see(8)
    await until(lambda: tellers.faulty.asked["claim"] > 0)
    assert tellers.receiver.messages == []
    tellers.faulty.come_back()
    await tellers.see(8)
    await tellers.receiver.until(1)


async def test_what_was_claimed_is_told_though_the_store_leaves(tellers: Tellers) -> None:
    tellers.receiver.statuses = [503]
    tellers.receiver.seconds = 0.3
    await tellers.see(8)
    await tellers.receiver.until(1)
    tellers.faulty.leave("claim", "complete_claim")
    _, again = await tellers.receiver.until(2)
    await until(lambda: tellers.faulty.asked["complete_claim"] > 0)
    tellers.faulty.come_back()
    await tellers.see(8)
    await until(lambda: tellers.has("sent"))
    assert again.id == tellers.receiver.messages[0].id
    assert len(tellers.receiver.messages) == 2


async def test_after_its_pauses_it_is_left_alone_for_an_hour(tellers: Tellers) -> None:
    tellers.receiver.status = 503
    with capture_logs() as lines:
        await tellers.see(8)
        await until(lambda: tellers.has("failed"))
    attempts = [line["attempt"] for line in lines if line["event"] == "alert attempt failed"]
    assert attempts == [1, 2]
    assert [line["attempts"] for line in lines if line["event"] == "alert not sent"] == [3]
    assert len(tellers.receiver.messages) == len(QUICK) + 1
    assert (tellers.counted("failed"), tellers.counted("sent")) == (1, 0)
    (claim,) = await tellers.store.claims.current()
    assert claim.done
    assert GIVEN_UP_SECONDS - 60 < claim.ends - time.time() <= GIVEN_UP_SECONDS
    (told,) = await tellers.states()
    assert (told.attempts, told.error) == (3, "the receiver answered 503: ok")
    # The next threshold is another alert.
    tellers.receiver.status = 200
    await tellers.see(10)
    await until(lambda: tellers.has("sent"))
    assert tellers.receiver.messages[-1].json["percent"] == 100


async def test_what_was_told_is_known_for_longer_than_its_window(tellers: Tellers) -> None:
    await tellers.see(10)
    await until(lambda: tellers.has("sent"))
    (claim,) = await tellers.store.claims.current()
    (told,) = await tellers.states()
    assert claim.ends >= told.alert.ends + SHOWN_SECONDS - 60


async def test_a_webhook_that_is_taken_away_is_told_no_more(tellers: Tellers) -> None:
    tellers.receiver.status = 503
    tellers.receiver.seconds = 0.5
    await tellers.see(8)
    await tellers.receiver.until(1)
    tellers.settings = replace(tellers.settings, alerts=AlertSettings())
    await until(lambda: tellers.faulty.asked["claim"] >= 3)
    assert len(tellers.receiver.messages) == 1
    assert tellers.counted("failed") == 0


async def test_a_receiver_that_hangs_holds_up_no_other(tellers: Tellers) -> None:
    teams = [Team(name=f"team-{number}", limits=Limits(images_per_day=10)) for number in range(30)]
    await put_teams(tellers.store.directory, teams)
    async with running_receiver() as other:
        tellers.receiver.seconds = 20.0
        webhooks = {
            "hangs": Webhook(name="hangs", url=Secret(tellers.receiver.url)),
            "well": Webhook(name="well", url=Secret(other.url)),
        }
        tellers.settings = Settings(alerts=AlertSettings(webhooks=webhooks))
        await until(lambda: "team-29" in tellers.directory.teams)
        await tellers.see(10, *(team_account(team.name) for team in teams))
        await other.until(len(teams))
        assert len(tellers.receiver.messages) <= AT_ONCE


async def test_accounts_of_nobody_are_passed_over(tellers: Tellers) -> None:
    await tellers.see(10, team_account("gone"), GATEWAY, "something else", team_account("red"))
    (message,) = await tellers.receiver.until(1)
    await until(lambda: tellers.has("sent"))
    assert message.json["team"] == "red"
    assert len(tellers.receiver.messages) == 1


async def test_of_failed_purchases_only_a_refused_upstream_key_is_an_alert(
    tellers: Tellers,
) -> None:
    record = RequestRecord(id="r", started=0.0)
    (teller,) = tellers.all
    teller.purchase_failed(record, UpstreamFailed(retry=True))
    for _ in range(3):
        teller.purchase_failed(record, UpstreamAuth())
    (message,) = await tellers.receiver.until(1)
    await until(lambda: tellers.has("sent"))
    assert message.json["event"] == "upstream_auth"
    assert len(tellers.receiver.messages) == 1
