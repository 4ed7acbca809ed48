"""Recent requests, errors and latency as values: places, shares, sums."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.model import RefusedBy
from gateway.reporting.request_lines import (
    SUCCESSES,
    ErrorKind,
    ErrorSums,
    HourLatency,
    LineFilter,
    RequestLine,
    latency_of,
    make_place,
    place_prefix,
    ring_sizes,
    time_of,
)
from gateway.telemetry.metrics import OUTCOMES

NOON = 1_772_366_400.0
LINE = RequestLine(
    place=make_place(NOON, "0123abcd", 1),
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
    upstream_status=500,
    reason="no ü",
    refused_by=RefusedBy(
        scope="team",
        owner="red",
        limit="cost_per_day_usd",
        size="1.5",
        used="1",
        held="0.5",
        asked="0.04",
        resets_at=NOON + 60,
        wait_seconds=10.0,
    ),
)
KIND = ErrorKind(
    outcome="rate_limited", code="a", status=429, requests=2, last_at=NOON, last_id="r1"
)

times = st.floats(0, 4e9)


@given(times, times, st.integers(1, 2**33), st.integers(1, 2**33))
def test_places_are_in_the_order_of_time(one: float, two: float, first: int, second: int) -> None:
    early, late = sorted((int(one * 1000), int(two * 1000)))
    if early < late:
        assert make_place(early / 1000, "ffffffff", first) < make_place(
            late / 1000, "00000000", second
        )
    assert place_prefix(one) <= make_place(one, "00000000", first)


@given(times)
def test_a_place_shows_its_time_to_the_millisecond(at: float) -> None:
    line = replace(LINE, place=make_place(at, "0123abcd", 3))
    assert time_of(line.place) == pytest.approx(at, abs=0.0011)


def test_each_line_is_in_one_ring() -> None:
    assert replace(LINE, team=None, outcome="not_found").ring == "strangers"
    assert {outcome for outcome in OUTCOMES if replace(LINE, outcome=outcome).ring == "given"} == {
        "hit",
        "collapsed",
    }


@given(st.integers(0, 10**6))
def test_shares_add_up_to_the_whole(keep: int) -> None:
    of = ring_sizes(keep)
    assert sum(of.values()) == keep
    assert of["strangers"] <= keep / 10
    assert of["given"] <= keep / 2


def test_successes_are_outcomes() -> None:
    assert set(OUTCOMES) > SUCCESSES


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (LineFilter(), True),
        (LineFilter(team="red", key="k1", outcome="rate_limited", id="r1", errors=True), True),
        (LineFilter(team="blue"), False),
        (LineFilter(since=place_prefix(NOON)), True),
        (LineFilter(since=place_prefix(NOON + 1)), False),
        (LineFilter(key="k2"), False),
        (LineFilter(outcome="hit"), False),
        (LineFilter(id="r2"), False),
    ],
)
def test_a_filter_takes_only_matching_lines(wanted: LineFilter, takes: bool) -> None:
    assert wanted.matches(LINE) is takes


def test_a_success_is_not_an_error() -> None:
    wanted = LineFilter(errors=True)
    assert wanted.matches(replace(LINE, outcome="internal_error"))
    assert not wanted.matches(replace(LINE, outcome="hit"))


def test_errors_of_one_kind_are_added_up() -> None:
    later = replace(KIND, requests=3, last_at=NOON + 1, last_id="r2")
    other = replace(KIND, code=None, requests=7)
    for kinds in ([later, other, KIND], [KIND, other, later]):
        sums = ErrorSums()
        for kind in kinds:
            sums.add(kind)
        assert sums.kinds() == [other, replace(later, requests=5)]


def watched(own: list[float], upstream: list[float]) -> HourLatency:
    latency = HourLatency(7)
    for duration in own:
        latency.own.add(duration)
    for duration in upstream:
        latency.upstream.add(duration)
    return latency


durations = st.lists(st.floats(0, 400), max_size=30)


@given(durations, durations, durations)
def test_a_latency_comes_back_from_its_numbers(
    own: list[float], upstream: list[float], more: list[float]
) -> None:
    one, two = watched(own, upstream), watched(more, [])
    assert latency_of(7, one.numbers()) == one
    pairs = zip(one.numbers().split(), two.numbers().split(), strict=True)
    both = latency_of(7, " ".join(str(int(first) + int(second)) for first, second in pairs))
    assert both == one.plus(two) == two.plus(one)
    assert both.own.count == len(own) + len(more) == sum(both.own.counts)


def test_other_numbers_are_no_latency() -> None:
    with pytest.raises(ValueError, match="wrong count"):
        latency_of(7, "1 2 3")


def test_the_mean() -> None:
    latency = watched([0.002] * 90 + [0.2] * 10, [])
    assert latency.own.mean_ms == 21.8
    assert latency.upstream.mean_ms is None
