"""A counter of money that is exact: Prometheus' own adds up binary fractions, and drifts."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from gateway.model import MICRO


class MoneyCounter(Collector):
    """Counts whole micro-dollars and tells dollars, each the number nearest to the exact sum."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._micros = defaultdict[tuple[str, ...], int](int)
        registry.register(self)

    def add(self, labels: tuple[str, ...], micros: int) -> None:
        """Count so many micro-dollars more for the series with these label values."""
        self._micros[labels] += micros

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The family, with a series for each of the label values so far."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, micros in list(self._micros.items()):
            family.add_metric(labels, micros / MICRO)
        yield family
