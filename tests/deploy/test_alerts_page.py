"""docs/alerts.md: its messages match those that are sent, and its Python checks signatures."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast, get_args

import msgspec
import pytest
from multidict import CIMultiDict

from gateway.config.files import load_settings
from gateway.config.webhooks import Webhook, check_secret
from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, month_of
from gateway.quota.account import Counters
from gateway.reporting.alerts.message import Body, headers, message
from gateway.reporting.alerts.rules import (
    Alert,
    BudgetOwner,
    Event,
    alert_id,
    budget_alerts,
    trial_alert,
    unknown_alerts,
    upstream_alert,
)
from tests.support.documents import blocks
from tests.support.receiver import SECRET
from tests.support.tools import ROOT

PAGE = (ROOT / "docs" / "alerts.md").read_text()

NOON = 1_772_366_400.0
"""2026-03-01 12:00:00 UTC."""

OPS = Webhook(name="ops", at_percent=(80, 95, 100))


def example_alerts() -> list[Alert]:
    """Return one alert of each event."""
    money = Counters(
        PeriodUsage(day_of(NOON), 203, 8_120_000), PeriodUsage(month_of(NOON), 203, 8_120_000)
    )
    limits = Limits(cost_per_day=10_000_000)
    ((_, budget),) = budget_alerts((BudgetOwner(team="design"), money, limits), [OPS], NOON)
    ((_, unknown),) = unknown_alerts(1_320_000, [OPS], NOON)
    return [budget, upstream_alert(NOON), unknown, trial_alert("ops", NOON)]


def body(alert: Alert) -> bytes:
    return message("json", alert, alert_id(b"a store's secret", "ops", alert))


def test_its_messages_match_those_that_are_sent() -> None:
    shown = [msgspec.json.decode(block) for block in blocks("json", PAGE)]
    alerts = example_alerts()
    assert {alert.event for alert in alerts} == set(get_args(Event))
    sent = [*map(body, alerts), message("slack", alerts[0], "")]
    assert shown == [msgspec.json.decode(text) for text in sent]


def test_it_names_every_event_and_every_field() -> None:
    named = {name for line in PAGE.splitlines() if line.startswith("| `") for name in
             line.partition(" | ")[0].strip("| ").replace("`", "").split(", ")}  # fmt: skip
    assert named == set(get_args(Event)) | set(Body.__struct_fields__)


def test_its_configuration_is_valid(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("\n".join(blocks("toml", PAGE)))
    environ = {"OPS_WEBHOOK_URL": "https://ops.example.com/x", "OPS_WEBHOOK_SECRET": SECRET}
    settings, _ = load_settings(tmp_path / "gateway.toml", environ, needs_upstream=False)
    assert set(settings.alerts.webhooks) == {"ops", "design-channel"}


@pytest.mark.parametrize(
    ("name", "instead", "genuine"),
    [
        (None, "", True),
        ("webhook-id", "msg_other", False),
        ("webhook-timestamp", "1614265330", False),
        ("webhook-signature", "v1,bm9uZQ==", False),
    ],
)
def test_its_five_lines_check_a_signature(name: str | None, instead: str, genuine: bool) -> None:
    (code,) = blocks("python", PAGE)
    lines = [line for line in code.splitlines() if line.startswith("    ")]
    assert len(lines) == 5
    names = dict[str, object]()
    exec(compile(code, "alerts.md", "exec"), names)
    check = cast(Callable[[str, Mapping[str, str], bytes], bool], names["is_genuine"])
    sent = body(example_alerts()[0])
    received = CIMultiDict(headers("msg_1", sent, time.time(), check_secret(SECRET)))
    if name is not None:
        received[name] = instead
    assert check(SECRET, received, sent) is genuine
    assert not check(SECRET, received, sent + b" ")
