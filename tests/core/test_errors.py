"""Errors never have a status on which SDKs buy again, and forbid retries after a charge."""

from collections.abc import Iterator

import pytest

from gateway.core import errors
from gateway.core.errors import GatewayError
from gateway.core.faults import Fault, InvalidFields
from gateway.telemetry.metrics import OUTCOMES

EXAMPLES: list[GatewayError] = [
    errors.InternalError(),
    errors.Unauthenticated(),
    errors.KeyDisabled(),
    errors.NotPermitted("x", param="size", code="size_not_allowed"),
    errors.InvalidRequest("x"),
    InvalidFields([Fault(("n",), "x")]),
    errors.AdminOff(),
    errors.NotAdmin(),
    errors.ViewerOnly(),
    errors.ForeignOrigin(),
    errors.NoSuchThing("x"),
    errors.Conflicting("x"),
    errors.PreconditionFailed("x"),
    errors.NotFound(),
    errors.MethodNotAllowed("POST"),
    errors.BodyTooLarge(1),
    errors.WrongContentType(),
    errors.HeadersTooLarge(),
    errors.NotCached(),
    errors.InsufficientQuota("x"),
    errors.RateLimited("x", retry_after=1.5),
    errors.Overloaded(),
    errors.Draining(),
    errors.StoreUnavailable(),
    errors.StoreLost(),
    errors.UpstreamAuth(),
    errors.UpstreamFailed(retry=True),
    errors.UpstreamFailed(retry=False),
    errors.UpstreamUnreachable(),
    errors.UpstreamUnknown(),
    errors.UpstreamCut(),
    errors.UpstreamTimeout(),
    errors.UpstreamRefused(status=429, body=b"{}", retry_after=7),
]


def _all_kinds(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all_kinds(below)


def test_every_kind_has_an_example() -> None:
    bases = {GatewayError, errors.LimitReached, errors.Unavailable, errors.UpstreamError}
    assert {type(error) for error in EXAMPLES} == set(_all_kinds(GatewayError)) - bases


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
