"""Instruments: series that start at zero, and a counter of money as exact as the ledger."""

from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from gateway.telemetry.instruments import Instruments


def exported(registry: CollectorRegistry) -> dict[str, str]:
    lines = generate_latest(registry).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


@given(st.lists(st.integers(0, 10_000_000)))
@example([83_000] * 1_001)  # as binary fractions, they add up to something else
def test_money_is_exported_as_the_exact_sum(prices: list[int]) -> None:
    registry = CollectorRegistry()
    counter = Instruments(registry, {"spent_usd": "Money."}).money("spent_usd", "team", "model")
    assert exported(registry) == {}
    counter.add(("red", "a"), 42_000)
    for price in prices:
        counter.add(("blue", "a"), price)
    found = exported(registry)
    assert found.pop('gateway_spent_usd_total{model="a",team="red"}') == "0.042"
    assert [*map(float, found.values())] == [float(Decimal(sum(prices)) / 1_000_000)] * bool(prices)
