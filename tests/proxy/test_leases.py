"""Messages about a purchase: all gateways that receive a failure raise the same one."""

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import (
    Draining,
    GatewayError,
    InsufficientQuota,
    InternalError,
    Overloaded,
    RateLimited,
    StoreUnavailable,
)
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
from gateway.proxy.leases import decode_message, encode_message, message_of

SHARED: list[GatewayError] = [
    InternalError(),
    UpstreamAccountExhausted(upstream_status=429, reason="Pay."),
    UpstreamAccountExhausted(status=502, upstream_status=200),
    UpstreamAuth(),
    UpstreamCut(),
    UpstreamFailed(retry=True),
    UpstreamFailed(retry=False),
    UpstreamAuth(upstream_status=401, reason="It refused \u2014 the key."),
    UpstreamFailed(retry=False, upstream_status=413, reason="Too large."),
    UpstreamFailed(status=503, retry_after=1.5, upstream_status=503),
    UpstreamRefused(status=400, body=b'{"error":{}}', reason="No."),
    UpstreamRefused(status=429, body=b"\x00\xff", retry_after=16.5),
    UpstreamTimeout(),
    UpstreamUnknown(),
    UpstreamUnknown("of a certain kind"),
    UpstreamUnknown(upstream_status=524),
    UpstreamUnreachable(),
]

OWN: list[BaseException] = [
    Draining(),
    InsufficientQuota("of another team", whose=("team", "other")),
    KeyboardInterrupt(),
    Overloaded(),
    RateLimited("of another team", retry_after=3),
    StoreUnavailable(),
]


def seen(error: GatewayError) -> dict[str, Any]:
    """Everything that a client, the metrics or the ledger see of an error."""
    charged = getattr(error, "charged", None)
    fields = (error.status, error.type, error.code, error.outcome, error.retry, charged)
    return {"fields": fields, "text": error.message, "headers": error.headers, **vars(error)}


@pytest.mark.parametrize("error", SHARED, ids=[str(place) for place in range(len(SHARED))])
def test_a_decoded_failure_equals_the_encoded_one(error: GatewayError) -> None:
    assert message_of(error) is error
    decoded = decode_message(encode_message(error))
    assert type(decoded) is type(error)
    assert isinstance(decoded, GatewayError)
    assert seen(decoded) == seen(error)


def test_every_failure_of_the_upstream_has_a_message() -> None:
    def kinds(kind: type[UpstreamError]) -> set[type[UpstreamError]]:
        return {kind}.union(*map(kinds, kind.__subclasses__()))

    assert kinds(UpstreamError) - {UpstreamError} == set(map(type, SHARED)) - {InternalError}


@pytest.mark.parametrize("failure", OWN, ids=[type(each).__name__ for each in OWN])
def test_failures_of_the_buyer_alone_mean_again(failure: BaseException) -> None:
    assert message_of(failure) == "again"


def test_a_defect_is_sent_as_an_internal_error() -> None:
    """The call may have been sent and is charged: nobody may buy again."""
    assert isinstance(message_of(KeyError("a secret")), InternalError)


@pytest.mark.parametrize("word", ["again", "handed over"])
def test_a_decoded_word_equals_the_encoded_one(word: Literal["again", "handed over"]) -> None:
    assert decode_message(encode_message(word)) == word


@given(st.binary(max_size=64))
def test_unreadable_bytes_mean_again(data: bytes) -> None:
    assert decode_message(data) in ("again", "handed over")


def test_a_failure_of_a_later_version_means_again() -> None:
    data = encode_message(UpstreamCut()).replace(b"upstream_cut", b"upstream_odd")
    assert decode_message(data) == "again"


def test_failures_of_an_earlier_version_are_understood() -> None:
    older = ("outcome", "message", "retry", "status", "body", "retry_after")
    refused = UpstreamRefused(status=429, body=b"{}", retry_after=16.5, reason="No.")
    fields = msgspec.msgpack.decode(encode_message(refused))
    message = decode_message(msgspec.msgpack.encode({name: fields[name] for name in older}))
    assert isinstance(message, UpstreamRefused)
    assert (message.status, message.retry_after, message.reason) == (429, 17, None)
