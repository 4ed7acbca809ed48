"""Answers as HTTP: the error body, and which headers stand on what."""

import json

import pytest

from gateway.core.errors import (
    InsufficientQuota,
    NotFound,
    NotPermitted,
    RateLimited,
    UpstreamRefused,
)
from gateway.proxy.cache_status import CacheStatus
from gateway.proxy.context import ProxyResponse
from gateway.quota.status import Meter, RateLimitStatus
from gateway.telemetry.request_record import RequestRecord
from gateway.web.responses import error_body, error_response, image_response, json_response


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


def test_the_upstreams_own_error_goes_out_as_it_is() -> None:
    body = b'{"error": {"message": "no", "code": 7}, "more": 1}'
    response = error_response(UpstreamRefused(status=429, body=body, retry_after=9), record())
    assert (response.status, response.body) == (429, body)
    assert response.headers["Retry-After"] == "9"
    assert response.headers["Content-Type"] == "application/json"


def test_without_a_record_an_error_tells_of_no_request() -> None:
    assert set(error_response(NotFound()).headers) == {"Content-Type", "Server"}


def test_an_error_before_the_ledger_has_no_limits_and_no_cost() -> None:
    assert set(error_response(NotFound(), record()).headers) == {
        "Content-Type",
        "Server",
        "X-Request-Id",
    }


def test_an_error_after_the_ledger_tells_what_is_left() -> None:
    standing = RateLimitStatus(requests=Meter(60, 0, 12.5), images=None)
    headers = error_response(InsufficientQuota("No."), record(rate_limits=standing)).headers
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "13s"
    assert headers["x-should-retry"] == "false"
    assert not [name for name in headers if name.endswith("-images")]
    assert "x-gateway-cost-usd" not in headers


@pytest.mark.parametrize(
    ("reset", "wait", "told", "retry_after"),
    [
        (12.5, 14.2, "15s", "15"),  # drawn out beyond the moment at which the limit is whole
        (0.35, 1.0, "1s", "1"),
        (3600.0, 12.0, "1h0m0s", "12"),
    ],
)
def test_no_reset_is_told_before_the_retry_after(
    reset: float, wait: float, told: str, retry_after: str
) -> None:
    standing = RateLimitStatus(requests=Meter(60, 0, reset), images=Meter(9, 9, reset))
    headers = error_response(
        RateLimited("No.", retry_after=wait), record(rate_limits=standing)
    ).headers
    assert headers["x-ratelimit-reset-requests"] == told
    assert headers["x-ratelimit-reset-images"] == told
    assert headers["Retry-After"] == retry_after


def test_an_error_after_the_upstream_tells_what_was_charged() -> None:
    headers = error_response(NotFound(), record(upstream=1.0, cost=211_000)).headers
    assert headers["x-gateway-cost-usd"] == "0.211"


def test_images_go_out_as_they_came_with_their_price() -> None:
    answer = ProxyResponse(b'{"data": [ ]}', CacheStatus.MISS_STORED)
    response = image_response(answer, record(cost=53_000, upstream=1.0))
    assert (response.status, response.body) == (200, b'{"data": [ ]}')
    assert response.headers["Cache-Status"] == "gateway; fwd=miss; stored"
    assert response.headers["x-gateway-cost-usd"] == "0.053"
    assert response.headers["x-gateway-saved-usd"] == "0"
    assert "Age" not in response.headers


def test_a_hit_tells_its_age_and_what_it_saved() -> None:
    headers = image_response(
        ProxyResponse(b"{}", CacheStatus.HIT, age=0), record(saved=53_000)
    ).headers
    assert headers["Age"] == "0"
    assert headers["x-gateway-cost-usd"] == "0"
    assert headers["x-gateway-saved-usd"] == "0.053"


def test_a_value_of_ours_is_json_with_the_request_id() -> None:
    response = json_response({"object": "list"}, record())
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {"object": "list"}
    assert response.headers["X-Request-Id"] == "r1"
    assert response.headers["Content-Type"] == "application/json"
