"""What people are told of: the highest threshold of each budget, once of each size and window."""

from dataclasses import dataclass
from fractions import Fraction

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
    alert_id,
    budget_alerts,
    plain,
    receives_upstream_alerts,
    team_budgets,
    unknown_alerts,
    upstream_alert,
)

NOON = 1_772_366_400.0
"""2026-03-01 12:00:00 UTC."""
MIDNIGHT, NEXT_MONTH = NOON + 12 * 3600, 1_775_001_600.0

OPS = Webhook(name="ops")
DESIGN = Webhook(name="design", teams=("design",))


@dataclass
class Case:
    """An account and limits as small numbers."""

    images: int = 0
    cost: int = 0
    held: int = 0

    @property
    def counters(self) -> Counters:
        return Counters(
            PeriodUsage(day_of(NOON), self.images, self.cost, self.held, self.held),
            PeriodUsage(month_of(NOON), self.images, self.cost, self.held, self.held),
        )


def told(
    case: Case, limits: Limits, *webhooks: Webhook, owner: BudgetOwner | None = None
) -> list[Alert]:
    budget = (owner or BudgetOwner(team="red"), case.counters, limits)
    return [alert for _, alert in budget_alerts(budget, webhooks or (OPS,), NOON)]


def test_what_a_budgets_alert_shows() -> None:
    (alert,) = told(Case(images=81), Limits(images_per_day=100))
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
    found = told(Case(images=1, cost=9), limits)
    assert {(alert.limit, alert.percent) for alert in found} == {
        ("images_per_day", 100),
        ("images_per_month", 100),
        ("cost_per_day_usd", 80),
        ("cost_per_month_usd", 80),
    }
    assert {alert.resets_at for alert in found} == {MIDNIGHT, NEXT_MONTH}
    assert any("$0.000009 of $0.00001 for this month (90 %)" in alert.text for alert in found)


def test_limits_of_pace_are_nobodys_business() -> None:
    assert not told(Case(images=9), Limits(requests_per_minute=0, concurrent_requests=0))


def test_what_is_held_is_not_spent() -> None:
    assert not told(Case(images=7, held=3), Limits(images_per_day=10))


def test_a_limit_of_zero_never_raises_an_alert() -> None:
    assert not told(Case(), Limits(images_per_day=0, cost_per_day=0))


def test_a_window_that_is_over_counts_no_more() -> None:
    counters = Counters(PeriodUsage(day_of(NOON) - 1, 10), PeriodUsage(month_of(NOON) - 1, 10))
    limits = Limits(images_per_day=10, images_per_month=10)
    assert not list(budget_alerts((BudgetOwner(team="red"), counters, limits), [OPS], NOON))


@given(
    used=st.integers(0, 2**60),
    size=st.integers(1, 2**60),
    percents=st.lists(st.integers(1, 100), max_size=4).map(tuple),
)
def test_only_the_highest_reached_threshold_raises_an_alert(
    used: int, size: int, percents: tuple[int, ...]
) -> None:
    webhook = Webhook(name="ops", at_percent=percents)
    found = told(Case(cost=used), Limits(cost_per_day=size), webhook)
    reached = [percent for percent in percents if Fraction(used, size) >= Fraction(percent, 100)]
    assert [alert.percent for alert in found] == ([max(reached)] if reached else [])


def test_each_webhook_has_thresholds_and_teams_of_its_own() -> None:
    early = Webhook(name="early", at_percent=(10,))
    budget = BudgetOwner(team="design"), Case(images=15).counters, Limits(images_per_day=100)
    assert [webhook.name for webhook, _ in budget_alerts(budget, [OPS, early], NOON)] == ["early"]
    limits = Limits(images_per_day=1)
    for owner, names in (
        (BudgetOwner(team="design"), ["ops", "design"]),
        (BudgetOwner(team="design", line="k1"), ["ops", "design"]),
        (BudgetOwner(team="other"), ["ops"]),
        (BudgetOwner(), ["ops"]),
    ):
        found = budget_alerts((owner, Case(images=1).counters, limits), [OPS, DESIGN], NOON)
        assert [webhook.name for webhook, _ in found] == names
    assert (receives_upstream_alerts(OPS), receives_upstream_alerts(DESIGN)) == (True, False)


def test_keys_with_limits_of_their_own_have_budgets() -> None:
    def key(id: str, **fields: object) -> Key:
        return Key(id=id, team="red", name="Shop\n", digest=b"", created=0.0, **fields)  # type: ignore[arg-type]

    limits = Limits(images_per_day=2)
    account = Account(keys=dict.fromkeys(("k1", "k3", "k4"), Case(images=2).counters))
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


def test_all_teams_together() -> None:
    (alert,) = told(Case(images=8), Limits(images_per_day=10), owner=BudgetOwner())
    assert alert.team is None
    assert alert.text.startswith("All teams together have used 8 of 10 images for today (80 %)")


@pytest.mark.parametrize(("unknown", "count"), [(999_999, 0), (1_000_000, 0), (1_000_001, 1)])
def test_unknown_charges_above_the_threshold_raise_an_alert(unknown: int, count: int) -> None:
    never = Webhook(name="never", unknown_above_usd=None)
    found = list(unknown_alerts(unknown, [OPS, DESIGN, never], NOON))
    assert [webhook.name for webhook, _ in found] == ["ops"] * count
    for _, alert in found:
        assert (alert.used, alert.limit_value) == (1_000_001, 1_000_000)
        assert alert.ends == alert.resets_at == MIDNIGHT
        assert "$1.000001, above $1" in alert.text


def test_a_refused_upstream_key_raises_an_alert_once_an_hour() -> None:
    ids = [
        alert_id(b"s", "ops", upstream_alert(at))
        for at in (NOON, NOON + 3_599, NOON + 3_600, NOON + 90_000)
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert upstream_alert(NOON + 1).ends == NOON + 3_600


def test_an_id_is_that_of_its_store_webhook_budget_size_threshold_and_window() -> None:
    day, month = Limits(images_per_day=10), Limits(images_per_month=10)
    same = {
        alert_id(b"s", "ops", alert)
        for alert in (*told(Case(images=8), day), *told(Case(images=9), day))
    }
    assert len(same) == 1
    others = [
        alert_id(b"s", "ops", alert)
        for alert in (
            *told(Case(images=10), day),
            *told(Case(images=8), month),
            *told(Case(images=8), Limits(images_per_day=9)),
            *told(Case(images=8), day, owner=BudgetOwner(team="blue")),
            *told(Case(images=8), day, owner=BudgetOwner(team="red", line="k1")),
            *told(Case(images=8), day, owner=BudgetOwner()),
            *told(Case(cost=8), Limits(cost_per_day=10)),
        )
    ]
    (alert,) = told(Case(images=8), day)
    others += [alert_id(b"s", "other", alert), alert_id(b"t", "ops", alert)]
    assert len(same | set(others)) == 10


@given(st.text())
def test_a_name_is_one_short_line(name: str) -> None:
    assert plain(name).isprintable()
    assert len(plain(name)) <= 100
