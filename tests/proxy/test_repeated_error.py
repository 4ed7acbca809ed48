"""What the client of a repeat learns about the first attempt."""

from msgspec.structs import replace

from gateway.core.upstream_errors import UpstreamTimeout
from gateway.proxy.leases import encode_message
from gateway.proxy.operations import repeated_error
from gateway.quota.operations import Operation, Repeat

TIMED_OUT = Operation(
    id="1",
    request="first",
    gateway="a",
    at=0.0,
    lease=200.0,
    state="unknown",
    ended=60.0,
    failure=encode_message(UpstreamTimeout()),
)


def test_a_repeat_names_the_first_attempt_and_is_not_charged() -> None:
    error = repeated_error(Repeat(TIMED_OUT, 42.0), "")
    assert (error.status, error.code, error.first) == (504, "upstream_timeout", "first")
    assert "was charged at 1970-01-01T00:01:00Z (request id first)." in error.message
    assert error.message.endswith("'Cache-Control: no-cache'. This request was not charged.")


def test_a_purchase_whose_gateway_died_is_not_said_to_be_charged_yet() -> None:
    dead = replace(TIMED_OUT, failure=b"")
    error = repeated_error(Repeat(dead, 42.0), "")
    assert (error.status, error.code) == (502, "upstream_unknown")
    assert (
        "stopped at 1970-01-01T00:01:00Z (request id first). That request will be" in error.message
    )
    assert "was charged at" not in error.message
