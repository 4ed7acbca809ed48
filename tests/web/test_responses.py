"""Answers as HTTP: the error body, and the headers of each kind of answer."""

import json

import pytest

from gateway.core.errors import NotFound, NotPermitted, RateLimited
from gateway.core.upstream_errors import UpstreamRefused
from gateway.quota.limits import Meter, RateLimitStatus
from gateway.telemetry.request_record import RequestRecord
from gateway.web.responses import error_body, error_response


def record(**values: object) -> RequestRecord:
    made = RequestRecord(id="r1", started=0.0)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_an_error_has_the_four_fields_of_the_contract() -> None:
    error = NotPermitted("Not this size.", param="size", code="size_not_allowed")
    assert json.loads(error_body(error)) == {
        "error": {
            "message": "Not this size.",
            "type": "permission_error",
            "param": "size",
            "code": "size_not_allowed",
        }
    }
    assert json.loads(error_body(NotFound()))["error"]["param"] is None


def test_an_error_of_the_upstream_is_sent_unchanged() -> None:
    body = b'{"error": {"message": "no", "code": 7}, "more": 1}'
    response = error_response(UpstreamRefused(status=429, body=body, retry_after=9), record())
    assert (response.status, response.body) == (429, body)
    assert response.headers["Retry-After"] == "9"
    assert response.headers["Content-Type"] == "application/json"


def test_an_error_has_only_headers_of_the_steps_before_it() -> None:
    assert set(error_response(NotFound()).headers) == {"Content-Type", "Server"}
    named = {"Content-Type", "Server", "X-Request-Id"}
    assert set(error_response(NotFound(), record()).headers) == named
    charged = error_response(NotFound(), record(request=object(), cost=211_000)).headers
    assert set(charged) == named | {"x-gateway-cost-usd"}
    assert charged["x-gateway-cost-usd"] == "0.211"


@pytest.mark.parametrize(
    ("reset", "wait", "shown", "retry_after"),
    [
        (12.5, 14.2, "15s", "15"),  # a wait beyond the moment at which the limit is whole
        (0.35, 1.0, "1s", "1"),
        (3600.0, 12.0, "1h0m0s", "12"),
    ],
)
def test_no_reset_is_before_the_retry_after(
    reset: float, wait: float, shown: str, retry_after: str
) -> None:
    status = RateLimitStatus(requests=Meter(60, 0, reset), images=Meter(9, 9, reset))
    error = RateLimited("No.", retry_after=wait)
    headers = error_response(error, record(rate_limits=status)).headers
    assert headers["x-ratelimit-reset-requests"] == shown
    assert headers["x-ratelimit-reset-images"] == shown
    assert headers["Retry-After"] == retry_after
