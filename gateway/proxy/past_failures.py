"""The failures of operations under a name, as later requests get them.

The store keeps no text of a request, so an upstream's reason is kept without what it repeats of it.
"""

from typing import ClassVar

import msgspec
from msgspec import Struct

from gateway.core.errors import Draining, GatewayError, InternalError
from gateway.core.periods import utc
from gateway.core.upstream_errors import (
    RepeatedUnknown,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnknown,
)
from gateway.proxy.leases import decode_message
from gateway.quota.operations import Operation
from gateway.telemetry.request_record import RequestRecord


class PastFailure(GatewayError):
    """The definite failure of an operation, with its own status, type and code."""

    outcome: ClassVar[str] = "polled"
    retry = False


class _Kept(Struct, frozen=True):
    status: int
    type: str
    code: str
    message: str
    param: str | None = None


class _Fields(Struct, frozen=True):
    type: str | None = None
    code: str | None = None
    param: str | None = None


class _Body(Struct, frozen=True):
    error: _Fields


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode
_read_body = msgspec.json.Decoder(_Body).decode


def is_unclear(failure: BaseException) -> bool:
    """Whether a purchase that failed like this may have been made."""
    if isinstance(failure, UpstreamError):
        return failure.charged
    is_known = isinstance(failure, GatewayError) and not isinstance(failure, InternalError)
    return isinstance(failure, Exception) and not is_known


def encode_failure(failure: BaseException, record: RequestRecord) -> bytes:
    """Encode a definite failure. One that is none of the gateway's errors is that of a stop."""
    if not isinstance(failure, GatewayError):
        failure = Draining()
    message, type_, code, param = failure.message, failure.type, failure.code, failure.param
    if isinstance(failure, UpstreamError):
        status, reason = failure.upstream_status, record.reason_of(failure)
        said = "." if reason is None else f": {reason}"
        message = failure.text if status is None else f"{failure.text} It answered {status}{said}"
    if isinstance(failure, UpstreamRefused):
        fields = _fields(failure.body)
        type_, code, param = fields.type or type_, fields.code or code, fields.param
    return _encode(_Kept(failure.status, type_, code, message, param))


def _fields(body: bytes) -> _Fields:
    try:
        return _read_body(body).error
    except msgspec.DecodeError:  # such as a code that is a number
        return _Fields()


def past_failure(operation: Operation) -> PastFailure:
    """The error of an operation that failed for certain."""
    try:
        return _error(_decode(operation.failure))
    except msgspec.DecodeError:  # nobody was left to say more
        text = (
            "The gateway stopped or lost its store before it had bought anything. Nothing was "
            "charged."
        )
        return _error(_Kept(Draining.status, Draining.type, Draining.code, text))


def past_unclear_failure(operation: Operation) -> PastFailure:
    """The error of an operation whose outcome is unknown, for a client that asks for it."""
    first, text = _unclear(operation)
    return _error(_Kept(first.status, first.type, first.code, text))


def past_unknown(operation: Operation, record: str) -> RepeatedUnknown:
    """The error of a request whose operation, in this record, has an unknown outcome."""
    first, text = _unclear(operation)
    return RepeatedUnknown(
        f"{text} It is never bought again under this Idempotency-Key: to buy it, send another one, "
        "or none. This request was not charged.",
        status=first.status,
        code=first.code,
        record=record,
        first=operation.request,
    )


def _error(kept: _Kept) -> PastFailure:
    error = PastFailure(kept.message, param=kept.param, code=kept.code)
    error.status, error.type = kept.status, kept.type
    return error


def _unclear(operation: Operation) -> tuple[GatewayError, str]:
    """The failure with an unknown outcome, and what is to be said of it."""
    failure = decode_message(operation.failure)
    when = f"{utc(operation.ended)} (request id {operation.request})"
    if isinstance(failure, GatewayError):
        return failure, f"{failure.message} That was at {when}."
    return UpstreamUnknown(), (
        f"The gateway that bought this request stopped at {when}. It will be charged, or is "
        "already."
    )
