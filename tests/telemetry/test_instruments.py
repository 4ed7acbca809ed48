"""Instruments: series that start at zero, and a counter of money as exact as the ledger."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from gateway.telemetry.instruments import Instruments, MoneyCounter


def exported(registry: CollectorRegistry) -> dict[str, str]:
    lines = generate_latest(registry).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


@given(st.lists(st.integers(0, 10_000_000), min_size=1))
def test_money_is_exported_as_the_exact_sum(prices: list[int]) -> None:
    registry = CollectorRegistry()
    counter = MoneyCounter("spent_usd", "Money.", "team", registry=registry)
    for price in prices:
        counter.add(("red",), price)
    (found,) = exported(registry).values()
    assert float(found) == float(Decimal(sum(prices)) / 1_000_000)


def test_many_small_prices_leave_no_binary_fractions() -> None:
    registry = CollectorRegistry()
    counter = MoneyCounter("spent_usd", "Money.", "team", "model", registry=registry)
    for _ in range(1_001):
        counter.add(("red", "a"), 83_000)
    counter.add(("blue", "a"), 42_000)
    assert exported(registry) == {
        'spent_usd_total{model="a",team="red"}': "83.083",
        'spent_usd_total{model="a",team="blue"}': "0.042",
    }


def test_without_charges_money_has_no_series() -> None:
    registry = CollectorRegistry()
    MoneyCounter("spent_usd", "Money.", "team", registry=registry)
    assert exported(registry) == {}


def test_series_of_closed_sets_start_at_zero() -> None:
    registry = CollectorRegistry()
    make = Instruments(registry, {"calls": "Calls."})
    calls = make.counter("calls", "role", zero=("lead", "follow"))
    calls["lead",].inc()
    calls.begin("lead")
    assert exported(registry) == {
        'calls_total{role="lead"}': "1.0",
        'calls_total{role="follow"}': "0.0",
    }
