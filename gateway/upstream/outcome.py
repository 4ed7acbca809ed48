"""The meaning of the upstream's status, for the caller and for the bill.

A call that the upstream itself refused or failed costs nothing. A status that may come from an
edge or a proxy on the way is charged as unknown, because the origin may still generate the images.
So is every other ambiguous status.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import DecodeError
from msgspec.json import Decoder

from gateway.core.errors import (
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamUnknown,
)
from gateway.core.headers import clamp_retry_after
from gateway.core.redaction import Redactor
from gateway.core.strict_json import write_json
from gateway.upstream.port import Reply

MAX_REFUSAL_BYTES = 16_384
"""A longer refusal is replaced with the gateway's own. An error has a few hundred bytes, and
redaction blocks the event loop for a millisecond per 10 KB."""

REPLACED = write_json(
    {
        "error": {
            "message": "The upstream refused this request without a reason that can be passed on.",
            "type": "upstream_error",
            "param": None,
            "code": "upstream_refused",
        }
    }
)
"""The error for the caller if the upstream's refusal is not an error object."""

REFUSED = frozenset({400, 404, 422, 429})
"""Statuses that are about the request itself, and are passed on."""

_AUTH = frozenset({401, 403})
_FAILED = frozenset({500, 503})
_OBJECT = Decoder(dict[str, Any])


def judge(reply: Reply, secrets: Sequence[bytes], now: float) -> None:
    """Raise the UpstreamError that a reply means, unless its status is 200.

    `secrets` are redacted in a refusal that is passed on. `now` is needed for a Retry-After that
    is a date.
    """
    if reply.status == 200:
        return
    if reply.status not in REFUSED:
        raise _failure(reply.status)
    wait = clamp_retry_after(reply.headers.get("retry-after"), now)
    raise UpstreamRefused(
        status=reply.status,
        body=_redacted_body(reply.body, secrets),
        retry_after=wait if reply.status == 429 else None,
    )


def _failure(status: int) -> UpstreamError:
    if status in _AUTH:
        return UpstreamAuth()
    if status in _FAILED:
        return UpstreamFailed(retry=True)
    if 300 <= status < 500 and status != 408:
        return UpstreamFailed(retry=False)
    return UpstreamUnknown()


def _redacted_body(body: bytes, secrets: Sequence[bytes]) -> bytes:
    """Return the upstream's error object, redacted. Without one, return the gateway's own."""
    if len(body) > MAX_REFUSAL_BYTES:
        return REPLACED
    try:
        refusal = _OBJECT.decode(body)
        if not isinstance(refusal.get("error"), dict):
            return REPLACED
        return write_json(_redacted(refusal, Redactor(secrets)))
    # Not JSON, or a number that cannot be written, or too deeply nested.
    except (DecodeError, ValueError, RecursionError):
        return REPLACED


def _redacted(value: object, redactor: Redactor) -> object:
    """Redact every text in a value, including the names of fields.

    It works on decoded text, because a JSON escape could hide part of a secret.
    """
    if isinstance(value, str):
        return redactor.redact(value.encode()).decode(errors="replace")
    if isinstance(value, list):
        return [_redacted(each, redactor) for each in value]
    if isinstance(value, dict):
        return {_redacted(k, redactor): _redacted(v, redactor) for k, v in value.items()}
    return value
