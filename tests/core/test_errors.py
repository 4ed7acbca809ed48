"""Errors never have a status on which SDKs buy again, and forbid retries after a charge."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core import errors
from gateway.core.errors import GatewayError
from gateway.core.faults import Fault, InvalidFields
from gateway.telemetry.metrics import OUTCOMES


def _all_kinds(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all_kinds(below)


BASES = {GatewayError, errors.LimitReached, errors.Unavailable, errors.UpstreamError}
ARGUMENTS: dict[type[GatewayError], dict[str, Any]] = {
    InvalidFields: {"faults": [Fault(("n",), "x")]},
    errors.MethodNotAllowed: {"allowed": "POST"},
    errors.BodyTooLarge: {"limit": 1},
    errors.InsufficientQuota: {"message": "x"},
    errors.RateLimited: {"message": "x", "retry_after": 1.5},
    errors.UpstreamFailed: {"retry": True},
    errors.UpstreamRefused: {"status": 429, "body": b"{}", "retry_after": 7},
}
EXAMPLES = [
    kind(**ARGUMENTS.get(kind, {})) for kind in _all_kinds(GatewayError) if kind not in BASES
]

ADMIN_ONLY = errors.Conflicting
"""No SDK calls the admin API, and it buys nothing."""


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_sdks_do_not_retry_automatically_after_a_possible_charge(error: GatewayError) -> None:
    assert error.status >= 400
    assert error.status not in (408, 409) or isinstance(error, ADMIN_ONLY)
    charged = isinstance(error, errors.UpstreamError) and error.charged
    if charged or isinstance(error, errors.InternalError):
        assert error.headers["x-should-retry"] == "false"


def test_the_metrics_have_every_outcome() -> None:
    answers = {"hit", "miss", "collapsed", "models", "quota", "usage", "client_closed"}
    assert {error.outcome for error in EXAMPLES} | answers == set(OUTCOMES)
    assert len(set(OUTCOMES)) == len(OUTCOMES)


def test_a_wait_is_reported_in_seconds_and_milliseconds() -> None:
    headers = errors.RateLimited("x", retry_after=1.25).headers
    assert headers == {"Retry-After": "2", "retry-after-ms": "1250"}


def test_a_code_given_to_one_error_is_its_own() -> None:
    assert errors.InvalidRequest("x", code="special").code == "special"
    assert errors.InvalidRequest("x").code == "invalid_request"
