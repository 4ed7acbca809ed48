"""A request's record: what it says of one that was never answered."""

from gateway.record import Record


def test_a_request_without_an_answer_was_left_by_its_client() -> None:
    record = Record(id="r", started=1.0)
    assert (record.outcome, record.status) == ("client_closed", 499)
    assert (record.images, record.cost, record.saved, record.waited) == (0, 0, 0, 0.0)
    assert record.caller is None
    assert record.standing is None
    assert record.upstream is None
