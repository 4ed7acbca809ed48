"""Accounts: names, leases, the minute, and the parts of keys."""

from gateway.core.periods import PeriodUsage, day_of, end_of_month, month_of
from gateway.quota.account import (
    EMPTY,
    GATEWAY,
    MINUTE_BUCKETS,
    Account,
    Counters,
    Hold,
    team_account,
)
from tests.support.quota_steps import NOON


def hold(lease: float) -> Hold:
    return Hold(NOON, lease, "k1", "m", "s", "q", 1, 5, False)


def test_no_team_shares_the_gateways_account() -> None:
    names = {GATEWAY, team_account("gateway"), team_account("team:gateway"), team_account("")}
    assert len(names) == 4


def test_the_earliest_lease_is_that_of_an_open_hold() -> None:
    assert EMPTY.earliest_lease is None
    account = Account(holds={"a": hold(30.0), "b": hold(20.0)}, swept={"c": hold(10.0)})
    assert account.earliest_lease == 20.0


def test_empty_accounts_share_nothing() -> None:
    assert Account().holds is not EMPTY.holds
    assert Account() == EMPTY


def test_the_minute_reaches_back_over_sixty_whole_seconds() -> None:
    account = Account(minute=((99, 3), (100, 1), (160, 2)))
    assert account.minute_at(159.5) == account.minute
    assert account.minute_at(160.0) == ((100, 1), (160, 2))
    assert account.minute_at(160.999) == ((100, 1), (160, 2))
    assert account.minute_at(161.0) == ((160, 2),)
    assert account.minute_at(160 + MINUTE_BUCKETS) == ()


def test_a_keys_part_is_its_counters_and_its_holds() -> None:
    counters = Counters(PeriodUsage(1, 2), PeriodUsage(3, 4), ((5, 6),))
    mine = Hold(NOON, NOON, "mine", "m", "s", "q", 1, 5, False, True)
    account = Account(holds={"a": hold(20.0), "b": mine}, keys={"mine": counters})
    assert account.of_key("mine") == Account(
        PeriodUsage(1, 2), PeriodUsage(3, 4), ((5, 6),), {"b": mine}
    )
    assert account.of_key("k1") == Account(holds={"a": hold(20.0)})


def test_counters_are_over_once_their_month_and_minute_have_ended() -> None:
    end = end_of_month(month_of(NOON))
    counters = Counters(
        PeriodUsage(day_of(NOON)), PeriodUsage(month_of(NOON)), ((int(end) - 10, 1),)
    )
    assert not counters.is_over(end - 0.001)
    assert not counters.is_over(end)
    assert not counters.is_over(end + 50.999)
    assert counters.is_over(end + 51)
