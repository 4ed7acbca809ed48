"""Alerts: one at the highest threshold of each budget, once per size and period."""

from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.webhooks import Webhook
from gateway.core.model import Key, Limits
from gateway.core.periods import PeriodUsage, day_of, month_of
from gateway.quota.account import Account, Counters
from gateway.reporting.alerts.rules import (
    Alert,
    BudgetOwner,
    UpstreamEvent,
    alert_id,
    budget_alerts,
    excess_alerts,
    plain,
    team_budgets,
    unknown_alerts,
    upstream_alerts,
)

NOON = 1_772_366_400.0
"""2026-03-01 12:00:00 UTC."""
MIDNIGHT, NEXT_MONTH = NOON + 12 * 3600, 1_775_001_600.0

OPS = Webhook(name="ops")
DESIGN = Webhook(name="design", teams=("design",))


def counters(images: int = 0, cost: int = 0, held: int = 0, days_ago: int = 0) -> Counters:
    """Return counters with this usage in the day and the month."""
    return Counters(
        PeriodUsage(day_of(NOON) - days_ago, images, cost, held, held),
        PeriodUsage(month_of(NOON) - days_ago, images, cost, held, held),
    )


def raised(
    usage: Counters, limits: Limits, *webhooks: Webhook, owner: BudgetOwner | None = None
) -> list[Alert]:
    budget = (owner or BudgetOwner(team="red"), usage, limits)
    return [alert for _, alert in budget_alerts(budget, webhooks or (OPS,), NOON)]


def test_the_alert_of_a_budget() -> None:
    (alert,) = raised(counters(images=81), Limits(images_per_day=100))
    assert (alert.event, alert.team, alert.key, alert.limit) == (
        *("budget_reached", "red", None),
        "images_per_day",
    )
    assert (alert.percent, alert.used, alert.limit_value) == (80, 81, 100)
    assert alert.at == NOON
    assert alert.ends == alert.resets_at == MIDNIGHT
    assert alert.text == (
        "Team red has used 81 of 100 images for today (81 %). Resets 2 Mar, 00:00 UTC."
    )


def test_all_four_budgets_raise_alerts() -> None:
    limits = Limits(images_per_day=1, images_per_month=1, cost_per_day=10, cost_per_month=10)
    found = raised(counters(images=1, cost=9), limits, owner=BudgetOwner())
    assert {(alert.limit, alert.percent) for alert in found} == {
        ("images_per_day", 100),
        ("images_per_month", 100),
        ("cost_per_day_usd", 80),
        ("cost_per_month_usd", 80),
    }
    assert {alert.resets_at for alert in found} == {MIDNIGHT, NEXT_MONTH}
    assert any(
        "All teams together have used $0.000009 of $0.00001 for this month (90 %)" in alert.text
        for alert in found
    )


@pytest.mark.parametrize(
    ("usage", "limits"),
    [
        (counters(images=9), {"requests_per_minute": 0, "concurrent_requests": 0}),
        (counters(images=7, held=3), {"images_per_day": 10}),
        (counters(), {"images_per_day": 0, "cost_per_day": 0}),
        (counters(images=10, days_ago=1), {"images_per_day": 10, "images_per_month": 10}),
    ],
    ids=["not a budget", "only held", "limits of zero", "an earlier period"],
)
def test_no_alert(usage: Counters, limits: dict[str, int]) -> None:
    assert not raised(usage, Limits(**limits))


@given(
    used=st.integers(0, 2**60),
    size=st.integers(1, 2**60),
    percents=st.lists(st.integers(1, 100), max_size=4).map(tuple),
)
def test_only_the_highest_reached_threshold_raises_an_alert(
    used: int, size: int, percents: tuple[int, ...]
) -> None:
    webhook = Webhook(name="ops", at_percent=percents)
    found = raised(counters(cost=used), Limits(cost_per_day=size), webhook)
    reached = [percent for percent in percents if Fraction(used, size) >= Fraction(percent, 100)]
    assert [alert.percent for alert in found] == ([max(reached)] if reached else [])


def test_each_webhook_has_thresholds_and_teams_of_its_own() -> None:
    early = Webhook(name="early", at_percent=(10,))
    budget = BudgetOwner(team="design"), counters(images=15), Limits(images_per_day=100)
    assert [webhook.name for webhook, _ in budget_alerts(budget, [OPS, early], NOON)] == ["early"]
    limits = Limits(images_per_day=1)
    for owner, names in (
        (BudgetOwner(team="design"), ["ops", "design"]),
        (BudgetOwner(team="design", line="k1"), ["ops", "design"]),
        (BudgetOwner(team="other"), ["ops"]),
        (BudgetOwner(), ["ops"]),
    ):
        found = budget_alerts((owner, counters(images=1), limits), [OPS, DESIGN], NOON)
        assert [webhook.name for webhook, _ in found] == names


def test_keys_with_limits_of_their_own_have_budgets() -> None:
    def key(id: str, **fields: object) -> Key:
        return Key(id=id, team="red", name="Shop\n", digest=b"", created=0.0, **fields)  # type: ignore[arg-type]

    limits = Limits(images_per_day=2)
    account = Account(keys=dict.fromkeys(("k1", "k3", "k4"), counters(images=2)))
    keys = [
        ("k1", key("k2", first="k1", limits=limits)),
        ("k3", key("k3")),
        ("k4", key("k4", limits=limits, state="revoked")),
        ("k5", key("k5", limits=limits)),
    ]
    budgets = list(team_budgets("red", Limits(), account, keys))
    assert [owner.key for owner, _, _ in budgets] == [None, "sk-gw-k1"]
    (alert,) = (alert for budget in budgets for _, alert in budget_alerts(budget, [OPS], NOON))
    assert (alert.team, alert.key) == ("red", "sk-gw-k1")
    assert alert.text.startswith('Key sk-gw-k1 ("Shop?") of team red has used 2 of 2 images')


@pytest.mark.parametrize(("unknown", "count"), [(999_999, 0), (1_000_000, 0), (1_000_001, 1)])
def test_unknown_charges_above_the_threshold_raise_an_alert(unknown: int, count: int) -> None:
    never = Webhook(name="never", unknown_above_usd=None)
    found = list(unknown_alerts(unknown, [OPS, DESIGN, never], NOON))
    assert [webhook.name for webhook, _ in found] == ["ops"] * count
    for _, alert in found:
        assert (alert.used, alert.limit_value) == (1_000_001, 1_000_000)
        assert alert.ends == alert.resets_at == MIDNIGHT
        assert "$1.000001, above $1" in alert.text


@pytest.mark.parametrize("event", get_args(UpstreamEvent))
def test_an_upstream_that_refuses_the_gateway_raises_an_alert_once_an_hour(
    event: UpstreamEvent,
) -> None:
    times = (NOON, NOON + 3_599, NOON + 3_600, NOON + 90_000)
    alerts = [alert for at in times for _, alert in upstream_alerts(event, [OPS, DESIGN], at)]
    assert {alert.event for alert in alerts} == {event}
    ids = [alert_id(b"s", "ops", alert) for alert in alerts]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert alerts[1].ends == NOON + 3_600


def test_excess_raises_an_alert_for_each_team_once_an_hour() -> None:
    found = [
        *excess_alerts("red", 1, 1_500, [OPS, DESIGN], NOON),
        *excess_alerts("red", 2, 9, [OPS], NOON + 3_599),
        *excess_alerts("blue", 1, 9, [OPS], NOON),
        *excess_alerts("red", 1, 9, [OPS], NOON + 3_600),
    ]
    assert [webhook for webhook, _ in found] == [OPS] * 4
    ids = [alert_id(b"s", "ops", alert) for _, alert in found]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    alert = found[0][1]
    assert (alert.team, alert.ends) == ("red", NOON + 3_600)
    assert "delivered 1500 images to team red, which asked for 1." in alert.text


def test_an_id_names_store_webhook_budget_size_threshold_and_period() -> None:
    day, month = Limits(images_per_day=10), Limits(images_per_month=10)
    same = {
        alert_id(b"s", "ops", alert)
        for alert in (*raised(counters(images=8), day), *raised(counters(images=9), day))
    }
    assert len(same) == 1
    others = [
        alert_id(b"s", "ops", alert)
        for alert in (
            *raised(counters(images=10), day),
            *raised(counters(images=8), month),
            *raised(counters(images=8), Limits(images_per_day=9)),
            *raised(counters(images=8), day, owner=BudgetOwner(team="blue")),
            *raised(counters(images=8), day, owner=BudgetOwner(team="red", line="k1")),
            *raised(counters(images=8), day, owner=BudgetOwner()),
            *raised(counters(cost=8), Limits(cost_per_day=10)),
        )
    ]
    (alert,) = raised(counters(images=8), day)
    others += [alert_id(b"s", "other", alert), alert_id(b"t", "ops", alert)]
    assert len(same | set(others)) == 10


@given(st.text())
def test_a_name_is_one_short_line(name: str) -> None:
    assert plain(name).isprintable()
    assert len(plain(name)) <= 100
