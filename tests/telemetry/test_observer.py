"""The fan-out of events: each listener gets the events that it overrides, and only those."""

from structlog.testing import capture_logs

from gateway.telemetry.observer import Observer, Observers


class Cache(Observer):
    """Keeps the cache's look-ups."""

    def __init__(self) -> None:
        self.lookups: list[tuple[str, str]] = []

    def cache_lookup(self, tier: str, result: str) -> None:
        self.lookups.append((tier, result))


class Defective(Observer):
    def cache_lookup(self, tier: str, result: str) -> None:
        raise ZeroDivisionError


def test_every_listener_gets_an_event_with_its_arguments() -> None:
    first, second = Cache(), Cache()
    observers = Observers(first, Observer(), second)
    observers.cache_lookup("memory", result="hit")
    observers.lease_lost()
    assert first.lookups == second.lookups == [("memory", "hit")]


def test_a_listener_that_comes_later_gets_events_through_methods_taken_before() -> None:
    observers, late = Observers(), Cache()
    report = observers.cache_lookup
    report("memory", "miss")
    observers.add(late)
    report("redis", "hit")
    assert late.lookups == [("redis", "hit")]


def test_a_defective_listener_is_logged_and_stops_nothing() -> None:
    last = Cache()
    with capture_logs() as logged:
        Observers(Defective(), last).cache_lookup("memory", "hit")
    assert last.lookups == [("memory", "hit")]
    assert [(line["event"], line["on"]) for line in logged] == [("listener failed", "cache_lookup")]
