"""Delivery of alerts by several gateways over one store that is sometimes unavailable."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.config.settings import Settings
from gateway.config.webhooks import AlertSettings, Webhook
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
from gateway.tenants.directory import Directory
from tests.support.directory import put_teams
from tests.support.faulty_store import FaultyStore
from tests.support.receiver import Receiver, running_receiver
from tests.support.steps import until

QUICK = (0.05, 0.05)


class Gateways:
    """Several gateways. A test shows accounts to them."""

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
        """Show all gateways that these accounts (by default red's) have spent so many images."""
        now = time.time()
        account = Account(PeriodUsage(day_of(now), images), PeriodUsage(month_of(now), images))
        for each in self.all:
            each.accounts_seen(dict.fromkeys(names or (team_account("red"),), account))

    async def states(self) -> list[Delivery]:
        return await deliveries(await self.store.claims.current())

    async def has(self, state: str) -> bool:
        return any(delivery.state == state for delivery in await self.states())

    def counted(self, result: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "gateway_alerts_total", {"kind": "json", "result": result}
        )


@asynccontextmanager
async def running(folder: Path, count: int = 1) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(running_receiver())
        store = await stack.enter_async_context(SqliteStore(folder / "gateway.db"))
        await put_teams(store.directory, [Team(name="red", limits=Limits(images_per_day=10))])
        gateways = Gateways(store, receiver)
        directory = Directory(
            store.directory, pepper=b"p", wall=time.time, monotonic=time.monotonic
        )
        gateways.directory = await stack.enter_async_context(directory)
        for number in range(count):
            webhooks = await stack.enter_async_context(HttpWebhooks())
            deliverer = Deliverer(
                gateways.faulty.claims,
                webhooks,
                lambda: gateways.settings,
                secret=b"secret",
                owner=f"gateway {number}",
                wall=time.time,
                spread=lambda: 0.5,
                pauses=QUICK,
                observer=gateways.metrics,
            )
            alerts = Alerts(
                store.usage, directory, lambda: gateways.settings, deliverer, wall=time.time
            )
            gateways.all.append(await stack.enter_async_context(alerts))
        yield gateways


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Gateways]:
    async with running(tmp_path) as found:
        yield found


async def test_one_of_many_gateways_delivers_an_alert(tmp_path: Path) -> None:
    async with running(tmp_path, 5) as gateways:
        for _ in range(3):
            await gateways.see(8)
            await gateways.receiver.until(1)
            await until(lambda: gateways.has("sent"))
        await gateways.see(10)
        await gateways.receiver.until(2)
        (claim, *_), (delivery, *_) = await gateways.store.claims.current(), await gateways.states()
        assert claim.ends >= delivery.alert.ends + SHOWN_SECONDS - 60
    assert [each.json["percent"] for each in gateways.receiver.messages] == [80, 100]


async def test_nothing_is_delivered_without_a_claim(gateways: Gateways) -> None:
    gateways.faulty.leave("claim", "complete")
    await gateways.see(8)
    await until(lambda: gateways.faulty.asked["claim"] > 0)
    assert gateways.receiver.messages == []
    gateways.faulty.come_back()
    await gateways.see(8)
    await gateways.receiver.until(1)


async def test_a_claimed_alert_is_delivered_though_the_store_leaves(gateways: Gateways) -> None:
    gateways.receiver.statuses = [503]
    gateways.receiver.seconds = 0.3
    await gateways.see(8)
    await gateways.receiver.until(1)
    gateways.faulty.leave("claim", "complete")
    _, again = await gateways.receiver.until(2)
    await until(lambda: gateways.faulty.asked["complete"] > 0)
    gateways.faulty.come_back()
    await gateways.see(8)
    await until(lambda: gateways.has("sent"))
    assert again.id == gateways.receiver.messages[0].id
    assert len(gateways.receiver.messages) == 2


async def test_after_its_retries_an_alert_is_given_up_for_an_hour(gateways: Gateways) -> None:
    gateways.receiver.status = 503
    with capture_logs() as lines:
        await gateways.see(8)
        await until(lambda: gateways.has("failed"))
    attempts = [line["attempt"] for line in lines if line["event"] == "alert attempt failed"]
    assert attempts == [1, 2]
    assert [line["attempts"] for line in lines if line["event"] == "alert not sent"] == [3]
    assert len(gateways.receiver.messages) == len(QUICK) + 1
    assert (gateways.counted("failed"), gateways.counted("sent")) == (1, 0)
    (claim,) = await gateways.store.claims.current()
    assert claim.done
    assert GIVEN_UP_SECONDS - 60 < claim.ends - time.time() <= GIVEN_UP_SECONDS
    (delivery,) = await gateways.states()
    assert (delivery.attempts, delivery.error) == (3, "the receiver answered 503: ok")
    # The next threshold is another alert.
    gateways.receiver.status = 200
    await gateways.see(10)
    await until(lambda: gateways.has("sent"))
    assert gateways.receiver.messages[-1].json["percent"] == 100


async def test_a_removed_webhook_receives_no_more_messages(gateways: Gateways) -> None:
    gateways.receiver.status = 503
    gateways.receiver.seconds = 0.5
    await gateways.see(8)
    await gateways.receiver.until(1)
    gateways.settings = replace(gateways.settings, alerts=AlertSettings())
    await until(lambda: gateways.faulty.asked["claim"] >= 3)
    assert len(gateways.receiver.messages) == 1
    assert gateways.counted("failed") == 0


async def test_a_receiver_that_hangs_delays_no_other(gateways: Gateways) -> None:
    teams = [Team(name=f"team-{number}", limits=Limits(images_per_day=10)) for number in range(30)]
    await put_teams(gateways.store.directory, teams)
    async with running_receiver() as other:
        gateways.receiver.seconds = 20.0
        webhooks = {
            "hangs": Webhook(name="hangs", url=Secret(gateways.receiver.url)),
            "well": Webhook(name="well", kind="slack", url=Secret(other.url)),
        }
        gateways.settings = Settings(alerts=AlertSettings(webhooks=webhooks))
        await until(lambda: "team-29" in gateways.directory.teams)
        await gateways.see(10, *(team_account(team.name) for team in teams))
        messages = await other.until(len(teams))
        assert {*messages[0].json} == {"text"}
        assert len(gateways.receiver.messages) <= AT_ONCE


async def test_accounts_without_a_team_are_ignored(gateways: Gateways) -> None:
    await gateways.see(10, team_account("gone"), GATEWAY, "something else", team_account("red"))
    (message,) = await gateways.receiver.until(1)
    await until(lambda: gateways.has("sent"))
    assert message.json["team"] == "red"
    assert len(gateways.receiver.messages) == 1
