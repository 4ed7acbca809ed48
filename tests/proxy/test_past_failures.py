"""What later requests of a name learn of a failure: status and code, and no text of a prompt."""

import asyncio
import json
from typing import Any

import pytest

from gateway.core.errors import (
    GatewayError,
    InsufficientQuota,
    InternalError,
    KeyDisabled,
    RateLimited,
    StoreUnavailable,
)
from gateway.core.model import ImageRequest
from gateway.core.upstream_errors import (
    UpstreamAuth,
    UpstreamCut,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from gateway.proxy.leases import encode_message
from gateway.proxy.past_failures import (
    encode_failure,
    is_unclear,
    past_failure,
    past_unclear_failure,
    past_unknown,
)
from gateway.quota.operations import Operation
from gateway.telemetry.request_record import RequestRecord

PROMPT = "a red apple on the oldest tree"
REQUEST = ImageRequest(
    model="m", prompt=PROMPT, size="auto", n=1, quality=None, body={"prompt": PROMPT}
)


def record() -> RequestRecord:
    return RequestRecord(id="r", started=0.0, request=REQUEST)


def ended(failure: bytes, **fields: Any) -> Operation:
    return Operation(
        id="o", request="r", gateway="g", at=0.0, lease=1.0, ended=2.0, failure=failure, **fields
    )


@pytest.mark.parametrize(
    "failure",
    [
        InsufficientQuota("The team has used its 3 images of today."),
        RateLimited("Too many.", retry_after=2.0),
        KeyDisabled(),
        StoreUnavailable(),
        UpstreamFailed(upstream_status=500, reason="Sorry"),
        UpstreamFailed(upstream_status=503, status=503, retry_after=3.0),
        UpstreamAuth(upstream_status=401),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_definite_failure_keeps_its_status_type_code_and_words(failure: GatewayError) -> None:
    found = past_failure(ended(encode_failure(failure, record())))
    assert (found.status, found.type, found.code) == (failure.status, failure.type, failure.code)
    assert found.message.startswith(failure.message.partition(" The upstream answered")[0])
    assert found.headers == {"x-should-retry": "false"}


def test_a_refusal_keeps_the_upstreams_code_but_not_the_prompt() -> None:
    body = {"error": {"message": f"No: {PROMPT}", "type": "t", "code": "c", "param": "prompt"}}
    refused = UpstreamRefused(
        status=400, body=json.dumps(body).encode(), reason=f"No: {PROMPT}, says the policy"
    )
    kept = encode_failure(refused, record())
    found = past_failure(ended(kept))
    assert (found.status, found.type, found.code, found.param) == (400, "t", "c", "prompt")
    assert "says the policy" in found.message
    assert b"apple" not in kept


@pytest.mark.parametrize("body", [b"{}", b"[]", b"x", b'{"error":{"code":7}}'])
def test_a_refusal_of_another_shape_is_the_gateways(body: bytes) -> None:
    found = past_failure(ended(encode_failure(UpstreamRefused(status=422, body=body), record())))
    assert (found.status, found.type, found.code) == (422, "upstream_error", "upstream_refused")


def test_a_stop_is_a_definite_failure_of_which_nothing_more_is_known() -> None:
    for kept in (b"", encode_failure(asyncio.CancelledError(), record())):
        found = past_failure(ended(kept))
        assert (found.status, found.code) == (503, "draining")


@pytest.mark.parametrize(
    ("failure", "unclear"),
    [
        (UpstreamCut(), True),
        (UpstreamTimeout(), True),
        (InternalError(), True),
        (ZeroDivisionError(), True),
        (UpstreamFailed(), False),
        (StoreUnavailable(), False),
        (asyncio.CancelledError(), False),
    ],
)
def test_which_failures_may_have_been_purchases(failure: BaseException, unclear: bool) -> None:
    assert is_unclear(failure) is unclear


def test_an_unknown_outcome_has_its_own_failure_for_requests_and_for_polls() -> None:
    operation = ended(encode_message(UpstreamTimeout()), state="unknown")
    repeated, polled = past_unknown(operation, "n"), past_unclear_failure(operation)
    for error in (repeated, polled):
        assert (error.status, error.code, error.retry) == (504, "upstream_timeout", False)
        assert error.message.startswith(UpstreamTimeout.text)
        assert "request id r" in error.message
    assert "never bought again under this Idempotency-Key" in repeated.message
    assert "not charged" not in polled.message


def test_the_unknown_outcome_of_a_dead_gateway() -> None:
    error = past_unclear_failure(ended(b"", state="unknown"))
    assert (error.status, error.code) == (502, "upstream_unknown")
    assert "stopped at 1970-01-01T00:00:02Z" in error.message
