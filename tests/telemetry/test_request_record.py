"""A request's record: what it says of one that was never answered."""

from time import perf_counter

from gateway.telemetry.request_record import RequestRecord


def test_a_request_without_an_answer_was_left_by_its_client() -> None:
    record = RequestRecord(id="r", started=1.0)
    assert (record.outcome, record.status) == ("client_closed", 499)
    assert (record.images, record.cost, record.saved, record.waited) == (0, 0, 0, 0.0)
    assert record.caller is None
    assert record.standing is None
    assert record.upstream is None


def test_laps_follow_each_other() -> None:
    began = perf_counter()
    record = RequestRecord(id="r", started=began)
    record.lap("first")
    record.lap(None)
    record.lap("last")
    assert list(record.phases) == ["first", "last"]
    assert 0 <= sum(record.phases.values()) <= perf_counter() - began
