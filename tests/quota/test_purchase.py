"""A purchase by its hold, and which purchases a filter selects."""

import pytest
from msgspec.structs import replace

from gateway.quota.purchase import PurchaseFilter, purchase_of
from tests.support.quota_steps import NOON, reserve

PURCHASE = purchase_of("p1", "red", reserve(request="q1").hold(NOON), "unknown")


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (PurchaseFilter(), True),
        (PurchaseFilter(team="red", since=NOON, id="p1"), True),
        (PurchaseFilter(id="q1"), True),
        (PurchaseFilter(since=NOON - 1), True),
        (PurchaseFilter(team="blue"), False),
        (PurchaseFilter(since=NOON + 0.1), False),
        (PurchaseFilter(id="q2"), False),
    ],
)
def test_a_filter_selects_by_team_time_and_either_id(wanted: PurchaseFilter, matches: bool) -> None:
    assert wanted.matches(PURCHASE) is matches


def test_an_open_purchase_has_the_values_of_its_hold() -> None:
    hold = reserve(request="q1").hold(NOON)
    open_one = purchase_of("p1", "red", hold, "open")
    assert (open_one.id, open_one.request_id, open_one.state) == ("p1", "q1", "open")
    assert open_one.hold == replace(hold, lease=NOON, request=None)
