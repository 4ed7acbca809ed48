"""The port through which the gateways of one store elect a buyer, and its messages as bytes.

The answer itself is in the cache, or handed over. A failure is sent whole, so all who wait raise
the same one. That matters most for a failure that is charged: otherwise each gateway would buy and
be charged in turn. A failure that concerns the buyer alone (a limit, a store that does not answer,
a gateway that stops) is sent as "again": the others look into the cache and try themselves.
"""

from collections.abc import AsyncGenerator, Sequence
from math import ceil
from typing import Literal, Protocol

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from gateway.core.errors import GatewayError, InternalError, LimitReached, Unavailable
from gateway.core.model import Bought
from gateway.core.upstream_errors import (
    UpstreamAccountExhausted,
    UpstreamAuth,
    UpstreamCut,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnknown,
    UpstreamUnreachable,
)


class Lease(Struct, frozen=True):
    """The right to buy the answer of this name, for as long as the holder renews it."""

    name: str
    holder: str


class Rival(Struct, frozen=True):
    """The holder of a lease, and in how many seconds that expires unless it is renewed."""

    holder: str
    seconds: float


class LeaseEvent(Struct, frozen=True):
    """The end of a lease, with its holder's message: see `encode_message`."""

    lease: Lease
    # Gateways of an older version, in the middle of an upgrade, know it by this name.
    message: bytes = field(name="told")


class Leases(Protocol):
    """Leases in the store.

    Methods may raise StoreUnavailable, within about a second. Even then the store may have done
    the operation.
    """

    async def take(self, lease: Lease, seconds: float) -> Rival | None:
        """Take a lease for so many seconds; return its holder if there is one already."""

    async def renew(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        """Extend these to so many seconds from now; return those that others have taken.

        One that had expired is taken again.
        """

    async def end(self, endings: Sequence[tuple[Lease, bytes]]) -> None:
        """End each lease unless another gateway holds it, and send its message to all gateways."""

    async def hand_over(self, lease: Lease, bought: Bought, *, asked: bool = False) -> bool:
        """Leave an answer for those who wait for this lease's end, for about ten seconds.

        Returns False if nobody waits, or if the answer is too large. With `asked` it is known that
        somebody waits.
        """

    async def handed_over(self, lease: Lease) -> Bought | None:
        """Return the answer that was left, for some seconds after it was."""

    def listen(self) -> AsyncGenerator[LeaseEvent | None, None]:
        """Yield each lease's end from now on, and None once no event can be missed any more.

        Raises StoreUnavailable when the subscription is lost.
        """

    async def close(self) -> None:
        """Close the connections. Later calls raise StoreUnavailable."""


# -- messages -------------------------------------------------------------------------------------

Message = Literal["again", "handed over"] | GatewayError
"""Look and try again; fetch the answer that was handed over; or the failure that all share."""


class _Failure(Struct, frozen=True, kw_only=True):
    """A failure, with its kind as the `outcome` label, which no two kinds share."""

    outcome: str
    message: str
    retry: bool
    status: int
    body: bytes = b""
    retry_after: int | None = None
    # Older gateways neither send these nor read them. `wait` is `retry_after`, not rounded.
    wait: float | None = None
    upstream_status: int | None = None
    reason: str | None = None


_encode = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(_Failure | Literal["again", "handed over"])

_KINDS: dict[str, type[UpstreamError]] = {
    kind.outcome: kind
    for kind in (
        *(UpstreamAccountExhausted, UpstreamAuth, UpstreamCut, UpstreamFailed, UpstreamTimeout),
        *(UpstreamUnknown, UpstreamUnreachable),
    )
}


def message_of(failure: BaseException) -> Message:
    """The message about a purchase that failed like this."""
    match failure:
        case LimitReached() | Unavailable():
            return "again"
        case GatewayError():
            return failure
        case Exception():  # a defect: the call may have been sent, and is charged then
            return InternalError()
    return "again"


def encode_message(message: Message) -> bytes:
    """Encode a message."""
    if not isinstance(message, GatewayError):
        return _encode.encode(message)
    failure = _Failure(
        outcome=message.outcome, message=message.message, retry=message.retry, status=message.status
    )
    if isinstance(message, UpstreamError):
        wait = message.retry_after
        failure = replace(
            failure,
            retry_after=None if wait is None else ceil(wait),
            wait=wait,
            upstream_status=message.upstream_status,
            reason=message.reason,
        )
    if isinstance(message, UpstreamRefused):
        failure = replace(failure, body=message.body)
    return _encode.encode(failure)


def decode_message(data: bytes) -> Message:
    """Decode a message; one of an unknown kind, from a newer version, counts as "again"."""
    try:
        message = _decode.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "again"
    return _error(message) if isinstance(message, _Failure) else message


def _error(failure: _Failure) -> Message:
    wait = failure.retry_after if failure.wait is None else failure.wait
    if failure.outcome == InternalError.outcome:
        return InternalError()
    if failure.outcome == UpstreamRefused.outcome:
        return UpstreamRefused(
            status=failure.status, body=failure.body, retry_after=wait, reason=failure.reason
        )
    kind = _KINDS.get(failure.outcome)
    if kind is None:
        return "again"
    return kind(
        failure.message,
        status=failure.status,
        retry=failure.retry,
        retry_after=wait,
        upstream_status=failure.upstream_status,
        reason=failure.reason,
    )
