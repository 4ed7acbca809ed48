"""Alerts of a running gateway: each is delivered once, to the right webhooks."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Limits
from gateway.server.gateway import Gateway
from gateway.server.startup import StartError
from gateway.upstream.sandbox import Sandbox, UpstreamFault
from tests.support.receiver import PATH, SECRET, Message, Receiver, running_receiver
from tests.support.rig import FLAT, Rig, running_rig, settings_for
from tests.support.steps import metric, until

OPS = (
    FLAT
    + """
[alerts.webhooks.ops]
url_env = "GATEWAY_OPS_URL"
secret_env = "GATEWAY_OPS_SECRET"
"""
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


@asynccontextmanager
async def alerting(
    folder: Path, receiver: Receiver, toml: str = OPS, **environ: str
) -> AsyncIterator[Rig]:
    """A gateway that sends alerts to this receiver."""
    named = {"OPS_URL": receiver.url, "OPS_SECRET": SECRET, **environ}
    async with running_rig(folder, toml, None, **named) as rig:
        yield rig


async def buy(rig: Rig, key: str, count: int = 1) -> None:
    for _ in range(count):
        assert (await rig.generate(key, None)).status == 200


async def page(rig: Rig) -> Any:
    return (await rig.ask_admin("GET", "alerts")).json


async def until_state(rig: Rig, state: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait for so many alerts to be in a state."""
    async with asyncio.timeout(60):
        while True:
            found = [sent for sent in (await page(rig))["sent"] if sent["state"] == state]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


def thresholds(messages: list[Message]) -> list[tuple[Any, ...]]:
    return [
        tuple(message.json[name] for name in ("team", "key", "limit", "percent"))
        for message in messages
    ]


async def test_a_budget_raises_an_alert_at_each_threshold_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    async with alerting(tmp_path, receiver) as rig:
        key = await rig.key("red", limits=Limits(images_per_day=10))
        await buy(rig, key, 8)
        (first,) = await receiver.until(1)
        await buy(rig, key, 2)
        _, second = await receiver.until(2)
        assert (await rig.generate(key, None)).status == 429
        sent = await until_state(rig, "sent", 2)
        assert await metric(rig, "gateway_alerts_total", kind="json", result="sent") == 2
    body = first.json
    assert (body["event"], body["used"], body["limit_value"]) == ("budget_reached", 8, 10)
    assert (body["percent"], body["team"], body["key"]) == (80, "red", None)
    assert body["resets_at"].endswith("T00:00:00Z")
    assert "Team red has used 8 of 10 images for today (80 %)" in body["text"]
    assert (body["id"], first.is_signed, second.is_signed) == (first.id, True, True)
    assert (second.json["percent"], second.json["used"]) == (100, 10)
    assert {one["id"] for one in sent} == {first.id, second.id}
    # Neither a restart nor another check sends it again.
    async with alerting(tmp_path, receiver) as rig:
        await buy(rig, await rig.key("blue", limits=Limits(images_per_day=1)))
        _, _, third = await receiver.until(3)
        await until_state(rig, "sent", 3)
    assert third.json["team"] == "blue"
    assert len(receiver.messages) == 3


async def test_keys_and_all_teams_together_have_budgets_too(
    receiver: Receiver, tmp_path: Path
) -> None:
    toml = f"[limits]\ncost_per_day_usd = 0.1\n{OPS}"
    async with alerting(tmp_path, receiver, toml) as rig:
        await rig.key("red")
        key = await rig.further_key("red", limits=Limits(images_per_day=2))
        await buy(rig, key, 2)
        messages = await receiver.until(2)
    id = key.partition("_")[0]
    assert sorted(thresholds(messages), key=str) == [
        ("red", id, "images_per_day", 100),
        (None, None, "cost_per_day_usd", 80),
    ]
    (money,) = (message.json for message in messages if message.json["team"] is None)
    assert (money["used"], money["limit_value"]) == ("0.08", "0.1")


MODERATED = '{"error":{"message":"No.","code":"content_policy_violation"}}'


def refusing(status: int, body: str | None = None) -> UpstreamFault:
    return UpstreamFault(kind="status", status=status, body=body, times=1)


async def test_only_an_upstream_that_refuses_the_key_twice_raises_an_alert_and_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    async with alerting(tmp_path, receiver) as rig:
        key = await rig.key("red")
        rig.sandbox.faults.extend((refusing(500), *[refusing(403, MODERATED)] * 3, refusing(401)))
        codes = [(await rig.generate(key, None)).error[2] for _ in range(5)]
        assert codes == ["upstream_failed", *["content_policy_violation"] * 3, "upstream_auth"]
        assert await metric(rig, "gateway_upstream_key_refusals") == 1
        await buy(rig, key)  # a success between
        assert await metric(rig, "gateway_upstream_key_refusals") == 0
        rig.sandbox.faults.append(refusing(401))
        assert (await rig.generate(key, None)).error[2] == "upstream_auth"
        assert (await page(rig))["sent"] == []
        rig.sandbox.faults.append(UpstreamFault(kind="status", status=403, times=5))
        asked = await asyncio.gather(*(rig.generate(key, None) for _ in range(5)))
        assert {got.error[2] for got in asked} == {"upstream_auth"}
        (message,) = await receiver.until(1)
        await until_state(rig, "sent")
    body = message.json
    assert (body["event"], body["team"], body["limit"]) == ("upstream_auth", None, None)
    assert "refuses the gateway's key" in body["text"]
    assert len(receiver.messages) == 1


async def test_an_account_without_credit_raises_an_alert_at_once_and_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    async with alerting(tmp_path, receiver) as rig:
        key = await rig.key("red")
        rig.sandbox.faults.extend(refusing(402) for _ in range(3))
        for _ in range(3):
            assert (await rig.generate(key, None)).error[2] == "upstream_account_exhausted"
        (message,) = await receiver.until(1)
        await until_state(rig, "sent")
    assert (message.json["event"], message.json["team"]) == ("upstream_account_exhausted", None)
    assert len(receiver.messages) == 1


async def test_more_images_than_asked_for_raise_an_alert_for_each_team_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    async with alerting(tmp_path, receiver) as rig:
        for team in ("red", "blue"):
            rig.sandbox.faults.append(UpstreamFault(kind="fewer", images=5, times=2))
            await buy(rig, await rig.key(team), 3)
        messages = [each.json for each in await receiver.until(2)]
        await until_state(rig, "sent", 2)
    assert {body["event"] for body in messages} == {"excess_images"}
    assert sorted(body["team"] for body in messages) == ["blue", "red"]
    for body in messages:
        assert f"5 images to team {body['team']}, which asked for 1." in body["text"]
        assert (body["key"], body["limit"], body["used"]) == (None, None, None)
    assert len(receiver.messages) == 2


async def test_unknown_charges_above_the_threshold_raise_one_alert(
    receiver: Receiver, tmp_path: Path
) -> None:
    toml = OPS + 'unknown_above_usd = "0.08"\n'
    async with alerting(tmp_path, receiver, toml) as rig:
        key = await rig.key("red")
        rig.sandbox.faults.append(UpstreamFault(kind="not_json", times=3))
        for _ in range(2):
            assert (await rig.generate(key, None)).error[2] == "upstream_unknown"
        await rig.gateway.alerts.check_unknown()
        assert (await page(rig))["sent"] == []
        assert (await rig.generate(key, None)).error[2] == "upstream_unknown"
        for _ in range(3):
            await rig.gateway.alerts.check_unknown()
        (message,) = await receiver.until(1)
        await buy(rig, key, 2)
        await until_state(rig, "sent")
    body = message.json
    assert (body["event"], body["limit"]) == ("unknown_charges", "unknown_above_usd")
    assert (body["used"], body["limit_value"]) == ("0.12", "0.08")
    assert len(receiver.messages) == 1


async def test_a_passing_failure_is_retried(receiver: Receiver, tmp_path: Path) -> None:
    receiver.statuses = [503]
    async with alerting(tmp_path, receiver) as rig:
        await buy(rig, await rig.key("red", limits=Limits(images_per_day=1)))
        (waiting,) = await until_state(rig, "waiting")

        async def has_failed() -> bool:
            return bool((await page(rig))["webhooks"][0]["last_error"])

        await until(has_failed, 30)
        (shown,) = (await page(rig))["webhooks"]
        messages = await receiver.until(2)
        (sent,) = await until_state(rig, "sent")
        (after,) = (await page(rig))["webhooks"]
    assert shown["last_error"].startswith("the receiver answered ")
    assert (shown["waiting"], shown["last_sent_at"]) == (1, None)
    assert (after["waiting"], after["last_error"]) == (0, None)
    assert after["last_sent_at"]
    assert (sent["attempts"], sent["error"], sent["id"]) == (2, None, waiting["id"])
    assert {message.id for message in messages} == {sent["id"]}
    assert len({message.body for message in messages}) == 1
    assert all(message.is_signed for message in messages)


async def test_a_receiver_that_refuses_is_logged_once_without_secrets(
    receiver: Receiver, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.status, receiver.answer = 404, f"no_service {PATH}"
    async with alerting(tmp_path, receiver) as rig:
        await buy(rig, await rig.key("red", limits=Limits(images_per_day=1)))
        (failed,) = await until_state(rig, "failed")
        await buy(rig, await rig.key("blue", limits=Limits(images_per_day=10)))
        got = await rig.ask_admin("GET", "alerts")
        assert await metric(rig, "gateway_alerts_total", kind="json", result="failed") == 1
        config = await rig.ask_admin("GET", "config")
        assert config.json["alerts"]["webhooks"]["ops"]["url"] == f"{receiver.origin}/***"
        metrics = await rig.admin("/metrics")
    (shown,) = got.json["webhooks"]
    assert shown["last_error"] == failed["error"]
    assert failed["error"].startswith("the receiver answered 404: no_service /[redacted]")
    assert shown["url_shown"] == f"{receiver.origin}/***"
    assert (shown["last_sent_at"], shown["waiting"], shown["at_percent"]) == (None, 0, [80, 100])
    assert len(receiver.messages) == 1
    written = "".join(capfd.readouterr())
    assert written.count("alert not sent") == 1
    for text in (got.body, config.body, metrics.body, written.encode()):
        for secret in (PATH, PATH[10:30], SECRET, SECRET[6:]):
            assert secret.encode() not in text


async def test_a_gateway_does_not_start_with_an_unusable_webhook(tmp_path: Path) -> None:
    file = tmp_path / secrets.token_hex(4)
    toml = f'[alerts.webhooks.ops]\nurl_file = "{file}"'
    with pytest.raises(StartError, match=r"The webhook ops cannot be used: the file .* cannot be"):
        async with Sandbox() as sandbox:
            Gateway(settings_for(tmp_path, sandbox, toml))
