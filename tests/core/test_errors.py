"""Errors never have a status on which SDKs buy again, and forbid retries after a charge."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core import errors, upstream_errors
from gateway.core.admin_errors import Conflicting
from gateway.core.errors import GatewayError
from gateway.core.faults import Fault, InvalidFields
from gateway.quota.purchase import Refunded
from gateway.quota.purchases import AlreadyRefunded
from gateway.telemetry.metrics import OUTCOMES
from gateway.web.images import WrongRange


def _all_kinds(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all_kinds(below)


BASES = {GatewayError, errors.LimitReached, errors.Unavailable, upstream_errors.UpstreamError}
ARGUMENTS: dict[type[GatewayError], dict[str, Any]] = {
    InvalidFields: {"faults": [Fault(("n",), "x")]},
    errors.MethodNotAllowed: {"allowed": "POST"},
    errors.BodyTooLarge: {"limit": 1},
    errors.InsufficientQuota: {"message": "x"},
    errors.RateLimited: {"message": "x", "retry_after": 1.5},
    upstream_errors.UpstreamFailed: {"retry": True},
    upstream_errors.RepeatedUnknown: {
        "message": "x",
        "status": 504,
        "code": "upstream_timeout",
        "record": "r",
        "first": "r",
    },
    WrongRange: {"size": 1},
    AlreadyRefunded: {"former": Refunded(at=0.0, who="x", why="x")},
    upstream_errors.UpstreamRefused: {"status": 429, "body": b"{}", "retry_after": 7},
}
EXAMPLES = [
    kind(**ARGUMENTS.get(kind, {})) for kind in _all_kinds(GatewayError) if kind not in BASES
]

ADMIN_ONLY = Conflicting
"""No SDK calls the admin API, and it buys nothing."""


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_sdks_do_not_retry_automatically_after_a_possible_charge(error: GatewayError) -> None:
    assert error.status >= 400
    assert error.status not in (408, 409) or isinstance(error, ADMIN_ONLY)
    charged = isinstance(error, upstream_errors.UpstreamError) and error.charged
    if charged or isinstance(error, errors.InternalError | upstream_errors.RepeatedUnknown):
        assert error.headers["x-should-retry"] == "false"


def test_the_metrics_have_every_outcome() -> None:
    answers = {"hit", "miss", "collapsed", "models", "quota", "usage", "files", "preflight"}
    answers |= {"client_closed", "accepted", "polled"}
    assert {error.outcome for error in EXAMPLES} | answers == set(OUTCOMES)
    assert len(set(OUTCOMES)) == len(OUTCOMES)


def test_a_wait_is_reported_in_seconds_and_milliseconds() -> None:
    headers = errors.RateLimited("x", retry_after=1.25).headers
    assert headers == {"Retry-After": "2", "retry-after-ms": "1250"}


@pytest.mark.parametrize(
    "error",
    [error for error in EXAMPLES if isinstance(error, errors.Unavailable)],
    ids=lambda error: type(error).__name__,
)
def test_clients_wait_until_a_restart_or_a_failover_is_over(error: GatewayError) -> None:
    assert 3 <= int(error.headers["Retry-After"]) <= 59  # the SDKs ignore one above a minute
    assert "x-should-retry" not in error.headers


def test_a_code_given_to_one_error_is_its_own() -> None:
    assert errors.InvalidRequest("x", code="special").code == "special"
    assert errors.InvalidRequest("x").code == "invalid_request"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("502", "502."),
        ("502 Bad Gateway", "502: Bad Gateway"),
        ("502: Bad Gateway", "502: Bad Gateway"),
        ("5021 failures", "502: 5021 failures"),
        ("No.", "502: No."),
        (None, "502."),
    ],
)
def test_a_reason_does_not_repeat_the_status(reason: str | None, shown: str) -> None:
    error = upstream_errors.UpstreamUnknown(upstream_status=502, reason=reason)
    assert error.message == f"{error.text} The upstream answered {shown}"
    assert error.reason == (shown.removeprefix("502: ") if ":" in shown else None)
