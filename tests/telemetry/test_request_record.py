"""A request's record: its phases, and which time is the gateway's own."""

import time
from time import perf_counter

from gateway.telemetry.request_record import RequestRecord


def test_phases_are_measured_in_their_order() -> None:
    record = RequestRecord(id="r", started=perf_counter())
    record.phase_ended("first", perf_counter() - 0.01)
    record.phase_ended("last", perf_counter())
    assert list(record.phases) == ["first", "last"]
    assert record.phases["first"] >= 0.01 > record.phases["last"]


def test_waits_are_not_the_gateways_own_time() -> None:
    record = RequestRecord(id="r", started=perf_counter())
    with record.waiting():
        time.sleep(0.05)
        assert record.own_seconds() < 0.05  # the wait goes on
    assert record.waited >= 0.05
    assert record.own_seconds() < 0.05
    assert RequestRecord(id="r", started=0.0, waited=2.0).own_seconds(1.0) == 0
