"""The step that refunds an unknown charge."""

from typing import Any

import pytest
from msgspec.structs import asdict, replace

from gateway.core.model import Limits
from gateway.core.periods import day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import EMPTY, team_account
from gateway.quota.purchase import KeptEntry, Purchase, Refunded, charged_entry, read_why
from gateway.quota.refund import Refund
from gateway.quota.steps import Expire, Release, Settle
from tests.support.quota_steps import NOON, Bench, release, reserve, settle

LIMITS = Limits(images_per_day=10)
REFUNDED = Refunded(at=NOON, who="ops", why="not billed")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def refund(bench: Bench, id: str = "r1") -> Purchase:
    """Refund the unknown purchase with this id."""
    bench.apply(Refund(purchase=bench.records[id], refunded=REFUNDED))
    return bench.records[id]


def unknown(bench: Bench, *, swept: bool = False, **fields: Any) -> Purchase:
    """A purchase of two images, limited by team, key and gateway, that is charged as unknown."""
    bench.held(reserve(images=2, gateway_limits=LIMITS, key_limits=LIMITS, **fields))
    if swept:
        bench.now += 305
        bench.apply(Expire(team_account("red")))
    else:
        bench.apply(settle(images=2, unknown=True))
    return bench.records["r1"]


def charged(bench: Bench) -> set[tuple[int, int]]:
    """Images and cost of day and month, of the team, the key and the gateway."""
    counters = (bench.team(), bench.team().keys["k1"], bench.gateway)
    return {(usage.images, usage.cost) for each in counters for usage in (each.day, each.month)}


@pytest.mark.parametrize("swept", [True, False])
def test_a_refund_lowers_every_counter_and_replaces_the_entry(bench: Bench, swept: bool) -> None:
    purchase = unknown(bench, swept=swept, request="from the client")
    assert charged(bench) == {(2, 80_000)}
    assert (purchase.state, purchase.request_id, purchase.at) == (
        "unknown",
        "from the client",
        NOON,
    )
    before = bench.entries["r1"]
    assert before == KeptEntry(**asdict(charged_entry(purchase)), purchase=purchase)
    done = refund(bench)
    assert charged(bench) == {(0, 0)}
    assert done == replace(purchase, state="refunded", refunded=REFUNDED)
    nothing = {"outcome": "failed", "images_bought": 0, "images_unknown": 0, "cost": 0}
    assert bench.entries["r1"] == replace(before, **nothing, purchase=done)
    assert (before.at, before.requests) == (NOON, 1)
    # The budget can be used again, in full.
    bench.held(reserve("r2", images=10, gateway_limits=LIMITS, key_limits=LIMITS, limits=LIMITS))


@pytest.mark.parametrize(
    ("id", "request_id", "expected"),
    [("r1", "", "r1"), ("r1", "q7", "q7"), ("r1", None, None)],
)
def test_the_record_names_the_request(
    bench: Bench, id: str, request_id: str | None, expected: str | None
) -> None:
    assert unknown(bench, request=request_id).request_id == expected


def test_a_refund_after_the_day_lowers_the_month_only(bench: Bench) -> None:
    bench.now = end_of_day(day_of(NOON)) - 1
    unknown(bench)
    bench.now += 2
    bench.held(reserve("r2", gateway_limits=LIMITS, key_limits=LIMITS))
    bench.apply(settle("r2"))
    refund(bench)
    for counters in (bench.team(), bench.team().keys["k1"], bench.gateway):
        assert (counters.day.images, counters.day.cost) == (1, 40_000)
        assert (counters.month.images, counters.month.cost) == (1, 40_000)


def test_a_refund_after_the_month_changes_the_history_only(bench: Bench) -> None:
    bench.now = end_of_month(month_of(NOON)) - 1
    unknown(bench)
    bench.now += 2
    bench.held(reserve("r2", gateway_limits=LIMITS, key_limits=LIMITS))
    before = dict(bench.accounts)
    applied = bench.apply(Refund(purchase=bench.records["r1"], refunded=REFUNDED))
    assert bench.accounts == before
    assert set(applied.changes) == set(before), "the versions decide which of two refunds wins"
    assert bench.entries["r1"].outcome == "failed"


def test_a_refund_of_a_charge_that_the_store_has_lost_changes_the_history_only(
    bench: Bench,
) -> None:
    unknown(bench)
    bench.accounts.clear()
    refund(bench)
    assert (bench.team(), bench.gateway) == (EMPTY, EMPTY)
    assert bench.entries["r1"].outcome == "failed"


def test_without_limits_of_gateway_and_key_only_the_team_is_touched(bench: Bench) -> None:
    for id in ("r1", "r2"):
        bench.held(reserve(id, images=2))
        bench.apply(settle(id, images=2, unknown=True))
    step = Refund(purchase=bench.records["r1"], refunded=REFUNDED)
    assert step.accounts == (team_account("red"),)
    bench.apply(step)
    assert (bench.team().day.images, bench.gateway.day.images) == (2, 0)


@pytest.mark.parametrize(
    ("late", "images", "outcome"),
    [
        (settle(images=1), 1, "bought"),
        (settle(images=3), 3, "bought"),
        (release(), 0, "failed"),
    ],
)
def test_an_outcome_after_sweep_and_refund_is_charged_as_it_came(
    bench: Bench, late: Settle | Release, images: int, outcome: str
) -> None:
    unknown(bench, swept=True)
    refund(bench)
    for _ in range(2):  # its reply may be lost
        bench.apply(late)
        assert charged(bench) == {(images, images * 40_000)}
        entry = bench.entries["r1"]
        assert (entry.outcome, entry.images_bought) == (outcome, images)
        assert bench.records == {}


def test_an_unknown_outcome_after_sweep_and_refund_charges_nothing(bench: Bench) -> None:
    unknown(bench, swept=True)
    done = refund(bench)
    bench.apply(settle(images=2, unknown=True))
    assert charged(bench) == {(0, 0)}
    assert bench.records == {"r1": done}
    bench.apply(settle(images=2))
    assert charged(bench) == {(2, 80_000)}


@pytest.mark.parametrize("text", ["", " ", "a\nb", "a\tb", "a\x7fb", "x" * 301])
def test_a_reason_is_short_and_printable(text: str) -> None:
    with pytest.raises(ValueError, match="1 to 300 printable characters"):
        read_why(text)
    assert read_why(" not billed: ünï ") == "not billed: ünï"
    assert read_why("x" * 300) == "x" * 300
