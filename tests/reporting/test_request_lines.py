"""Recent requests, errors and latency as values: places, shares, sums, quantiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.reporting.request_lines import (
    GOOD,
    OWN_BOUNDS,
    UPSTREAM_BOUNDS,
    ErrorKind,
    Latency,
    Line,
    Stopwatch,
    Wanted,
    latency_of,
    moment,
    place,
    shares,
    together,
)
from gateway.telemetry.metrics import OUTCOMES

NOON = 1_772_366_400.0
LINE = Line(
    place=place(NOON, "0123abcd", 1),
    id="r1",
    team="red",
    key="k1",
    model="m",
    size="1024x1024",
    quality="high",
    outcome="rate_limited",
    status=429,
    code="rate_limit_exceeded",
    requests=1,
    images=0,
    cost=0,
    saved=0,
    total=0.002,
    own=0.001,
    upstream=None,
    fingerprint="0" * 16,
    route="quota",
)
KIND = ErrorKind(
    outcome="rate_limited", code="a", status=429, requests=2, last_at=NOON, last_id="r1"
)

times = st.floats(0, 4e9)


@given(times, times, st.integers(1, 2**33), st.integers(1, 2**33))
def test_places_are_in_the_order_of_time(one: float, two: float, first: int, second: int) -> None:
    early, late = sorted((int(one * 1000), int(two * 1000)))
    if early < late:
        assert place(early / 1000, "ffffffff", first) < place(late / 1000, "00000000", second)
    assert moment(one) <= place(one, "00000000", first)


@given(times)
def test_a_place_tells_its_time_to_the_millisecond(at: float) -> None:
    line = replace(LINE, place=place(at, "0123abcd", 3))
    assert line.at == pytest.approx(at, abs=0.0011)


def test_each_line_is_in_one_ring() -> None:
    assert replace(LINE, team=None, outcome="not_found").ring == "strangers"
    assert {outcome for outcome in OUTCOMES if replace(LINE, outcome=outcome).ring == "given"} == {
        "hit",
        "collapsed",
    }


@given(st.integers(0, 10**6))
def test_shares_are_all_there_is(keep: int) -> None:
    of = shares(keep)
    assert sum(of.values()) == keep
    assert of["strangers"] <= keep / 10
    assert of["given"] <= keep / 2


def test_what_went_well_are_outcomes() -> None:
    assert set(OUTCOMES) > GOOD


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Wanted(), True),
        (Wanted(team="red", key="k1", outcome="rate_limited", id="r1", errors=True), True),
        (Wanted(team="blue"), False),
        (Wanted(since=moment(NOON)), True),
        (Wanted(since=moment(NOON + 1)), False),
        (Wanted(key="k2"), False),
        (Wanted(outcome="hit"), False),
        (Wanted(id="r2"), False),
    ],
)
def test_only_what_is_wanted_is_taken(wanted: Wanted, takes: bool) -> None:
    assert wanted.takes(LINE) is takes


def test_what_went_well_is_no_error() -> None:
    wanted = Wanted(errors=True)
    assert wanted.takes(replace(LINE, outcome="internal_error"))
    assert not wanted.takes(replace(LINE, outcome="hit"))


def test_kinds_that_are_alike_are_added_up() -> None:
    later = replace(KIND, requests=3, last_at=NOON + 1, last_id="r2")
    other = replace(KIND, code=None, requests=7)
    assert together([later, other, KIND]) == [other, replace(later, requests=5)]
    assert together([KIND, later]) == together([later, KIND])


def watched(bounds: tuple[float, ...], seconds: list[float]) -> Stopwatch:
    stopwatch = Stopwatch(bounds)
    for duration in seconds:
        stopwatch.add(duration)
    return stopwatch


durations = st.lists(st.floats(0, 400), max_size=30)


@given(durations, durations, durations)
def test_a_latency_comes_back_from_its_numbers(
    own: list[float], upstream: list[float], more: list[float]
) -> None:
    one = Latency(7, watched(OWN_BOUNDS, own).times(), watched(UPSTREAM_BOUNDS, upstream).times())
    two = replace(one, own=watched(OWN_BOUNDS, more).times())
    assert latency_of(7, one.numbers()) == one
    both = latency_of(7, [sum(pair) for pair in zip(one.numbers(), two.numbers(), strict=True)])
    assert both == one.plus(two) == two.plus(one)
    assert both.requests == len(own) + len(more) == sum(both.own.counts)


def test_other_numbers_are_no_latency() -> None:
    with pytest.raises(ValueError, match="not as many"):
        latency_of(7, [1, 2, 3])


def test_mean_and_quantiles() -> None:
    times = watched(OWN_BOUNDS, [0.002] * 90 + [0.2] * 10).times()
    assert times.mean == pytest.approx(0.0218)
    for share, lower, upper in ((0.5, 0.001, 0.0025), (0.9, 0.001, 0.0025), (0.95, 0.1, 0.25)):
        quantile = times.quantile(share, OWN_BOUNDS)
        assert quantile is not None
        assert lower < quantile <= upper
    nothing = Stopwatch(OWN_BOUNDS).times()
    assert (nothing.mean, nothing.quantile(0.5, OWN_BOUNDS)) == (None, None)


@given(st.lists(st.floats(0, 400), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_within_its_bounds(seconds: list[float], share: float) -> None:
    quantile = watched(OWN_BOUNDS, seconds).times().quantile(share, OWN_BOUNDS)
    assert quantile is not None
    assert 0 <= quantile <= OWN_BOUNDS[-1]
