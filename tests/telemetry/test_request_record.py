"""A request's record: its phases, and which time is the gateway's own."""

import time
from time import perf_counter

from gateway.core.errors import InvalidRequest, RateLimited
from gateway.core.model import ImageRequest
from gateway.core.upstream_errors import RepeatedUnknown, UpstreamFailed
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


REQUEST = ImageRequest(
    model="m", prompt="A red apple", size="1024x1024", n=1, quality=None, body={}
)


def test_a_failure_of_the_upstream_has_its_status_and_its_reason_without_the_prompt() -> None:
    error = UpstreamFailed(retry=True, upstream_status=500, reason="No capacity for a red apple.")
    records = [RequestRecord(id=id, started=0.0, request=REQUEST) for id in "ab"]
    for record in records:
        record.failed(error)
        assert (record.outcome, record.code) == ("upstream_failed", "upstream_failed")
        assert (record.upstream_status, record.reason) == (500, "No capacity for [redacted].")
    # All who share a purchase share its reason: the texts are compared once.
    assert records[0].reason is records[1].reason
    assert error.reason == "No capacity for a red apple."


def test_a_refused_repeat_has_the_id_of_the_first_attempt_as_its_reason() -> None:
    record = RequestRecord(id="r", started=0.0, request=REQUEST)
    record.failed(
        RepeatedUnknown("No.", status=504, code="upstream_timeout", record="", first="first")
    )
    assert (record.outcome, record.code) == ("repeated_unknown", "upstream_timeout")
    assert (record.upstream_status, record.reason) == (None, "repeat of first")


def test_other_failures_have_no_reason_of_the_upstream() -> None:
    for error in (
        InvalidRequest("No."),
        RateLimited("No.", retry_after=1),
        UpstreamFailed(retry=True),
    ):
        record = RequestRecord(id="r", started=0.0, request=REQUEST)
        record.failed(error)
        assert (record.outcome, record.upstream_status) == (error.outcome, None)
        assert (record.reason, record.refused_by) == (None, None)
