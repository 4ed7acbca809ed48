"""What the buyer of an answer tells those who wait for it in other gateways, as bytes.

An answer itself is found in the cache, or handed over. A failure is told whole, so that all who
wait raise the same one: above all one that is charged, or each gateway would buy and be charged in
turn. What concerns the buyer alone (a limit, a store that is away, a gateway that stops) is told
as "again": the others look into the cache and try for themselves.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from gateway.core.errors import (
    GatewayError,
    InternalError,
    LimitReached,
    Unavailable,
    UpstreamAuth,
    UpstreamCut,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnknown,
    UpstreamUnreachable,
)

News = Literal["again", "handed over"] | GatewayError
"""What is told: look and try again; fetch what is handed over; or the failure that all share."""


class _Failure(Struct, frozen=True, kw_only=True):
    """A failure by the value of its outcome label, which is another one for each kind."""

    outcome: str
    message: str
    retry: bool
    status: int
    body: bytes = b""
    retry_after: int | None = None


_encode = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(_Failure | Literal["again", "handed over"])

_PLAIN: dict[str, Callable[[], GatewayError]] = {
    kind.outcome: kind
    for kind in (InternalError, UpstreamAuth, UpstreamCut, UpstreamTimeout, UpstreamUnreachable)
}


def news_of(failure: BaseException) -> News:
    """What others are told of a purchase that ended like this."""
    match failure:
        case LimitReached() | Unavailable():
            return "again"
        case GatewayError():
            return failure
        case Exception():  # a defect: the call may have been sent, and is charged then
            return InternalError()
    return "again"


def encode_news(news: News) -> bytes:
    """News as bytes."""
    if not isinstance(news, GatewayError):
        return _encode.encode(news)
    failure = _Failure(
        outcome=news.outcome, message=news.message, retry=news.retry, status=news.status
    )
    if isinstance(news, UpstreamRefused):
        failure = msgspec.structs.replace(failure, body=news.body, retry_after=news.retry_after)
    return _encode.encode(failure)


def decode_news(told: bytes) -> News:
    """The news in these bytes; "again" where they are of a kind that is unknown here."""
    try:
        news = _decode.decode(told)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "again"
    return _error(news) if isinstance(news, _Failure) else news


def _error(failure: _Failure) -> News:
    match failure.outcome:
        case UpstreamRefused.outcome:
            return UpstreamRefused(
                status=failure.status, body=failure.body, retry_after=failure.retry_after
            )
        case UpstreamFailed.outcome:
            return UpstreamFailed(retry=failure.retry)
        case UpstreamUnknown.outcome:
            return UpstreamUnknown(failure.message)
    plain = _PLAIN.get(failure.outcome)
    return plain() if plain else "again"
