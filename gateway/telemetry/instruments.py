"""How metrics are declared: instruments in one registry, each with the series it starts with.

A series that exists from the start makes the first failure a rise from zero; otherwise Prometheus
sees a new series and no rise at all.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from gateway.core.money import MICRO

# They would be a second series for each one, and nobody looks at them.
disable_created_metrics()  # type: ignore[no-untyped-call]  # published without types

M = TypeVar("M", Counter, Histogram)

Values = Mapping[tuple[str, ...], float]


class Series(dict[tuple[str, ...], M]):
    """An instrument's series by their label values: four times as quick as `labels()`.

    `zero` lists the label values of the series that exist from the start.
    """

    def __init__(self, instrument: M, zero: Iterable[tuple[str, ...]]) -> None:
        super().__init__()
        self._labels: Callable[..., M] = instrument.labels
        for values in zero:
            self.begin(*values)

    def __missing__(self, values: tuple[str, ...]) -> M:
        series = self[values] = self._labels(*values)
        return series

    def begin(self, *values: str) -> None:
        """Make the series with these label values, at zero, unless it exists."""
        _ = self[values]


@dataclass(eq=False)
class ComputedCounter(Collector):
    """A counter whose series `values` returns, by their label values, when Prometheus asks."""

    name: str
    help: str
    labels: Sequence[str]
    values: Callable[[], Values]

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Yield the family, with the series so far."""
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.values().items():
            family.add_metric(labels, value)
        yield family


class MoneyCounter(ComputedCounter):
    """Counts whole micro-dollars and exports dollars, each the float nearest to the exact sum."""

    def __init__(self, name: str, help: str, *labels: str) -> None:
        super().__init__(name, help, labels, self._dollars)
        self._micros = defaultdict[tuple[str, ...], int](int)

    def add(self, labels: tuple[str, ...], micros: int) -> None:
        """Add micro-dollars to the series with these label values."""
        self._micros[labels] += micros

    def _dollars(self) -> Values:
        # A copy in one go: this runs in a thread while series are added.
        return {labels: micros / MICRO for labels, micros in self._micros.copy().items()}


@dataclass(frozen=True)
class Instruments:
    """Makes instruments in one registry, with their help texts from a table.

    All names get the prefix `gateway_`, which the table leaves out.
    """

    registry: CollectorRegistry
    help: Mapping[str, str]

    def counter(self, name: str, **labels: Sequence[str]) -> Series[Counter]:
        """Make a counter with these labels, and a series for each combination of their values."""
        counter = Counter(*self._named(name), [*labels], registry=self.registry)
        return Series(counter, product(*labels.values()))

    def histogram(
        self, name: str, buckets: Sequence[float], **labels: Sequence[str]
    ) -> Series[Histogram]:
        """Make a histogram with these labels, and a series for each combination of their values."""
        about = self._named(name)
        histogram = Histogram(*about, [*labels], buckets=buckets, registry=self.registry)
        return Series(histogram, product(*labels.values()))

    def plain_counter(self, name: str) -> Counter:
        """Make a counter without labels."""
        return Counter(*self._named(name), registry=self.registry)

    def plain_histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        """Make a histogram without labels."""
        return Histogram(*self._named(name), buckets=buckets, registry=self.registry)

    def gauge(self, name: str, *labels: str) -> Gauge:
        """Make a gauge, which is set from outside."""
        return Gauge(*self._named(name), labels, registry=self.registry)

    def money(self, name: str, *labels: str) -> MoneyCounter:
        """Make a counter of money."""
        counter = MoneyCounter(*self._named(name), *labels)
        self.registry.register(counter)
        return counter

    def counter_function(self, name: str, value: Callable[[], int]) -> None:
        """Make a counter without labels whose value is read when Prometheus asks."""
        self.registry.register(ComputedCounter(*self._named(name), (), lambda: {(): value()}))

    def _named(self, name: str) -> tuple[str, str]:
        return f"gateway_{name}", self.help[name]
