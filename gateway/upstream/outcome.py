"""The meaning of the upstream's answer, for the caller and for the bill.

A call that the upstream itself refused or failed costs nothing. A status that may come from an
edge or a proxy on the way is charged as unknown, because the origin may still generate the images.
So is every other ambiguous status.
"""

from typing import Any

from msgspec import DecodeError
from msgspec.json import Decoder

from gateway.config.settings import UpstreamSettings
from gateway.core.headers import clamp_retry_after
from gateway.core.redaction import Redactor
from gateway.core.strict_json import write_json
from gateway.core.upstream_errors import (
    UpstreamAccountExhausted,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamUnknown,
)
from gateway.upstream.port import Reply
from gateway.upstream.reason import Said, read_said

MAX_REFUSAL_BYTES = 16_384
"""A longer refusal is replaced with its reason. An error has a few hundred bytes, and redaction
blocks the event loop for a millisecond per 10 KB."""

NO_REASON = "The upstream refused this request without a reason that can be passed on."

NO_PICTURE = "the response is no JSON with a picture"

PASSED_ON = frozenset({400, 403, 404, 422, 429})
"""Statuses about the request itself, which are passed on. Of 403 only one about content is."""

_AUTH = frozenset({401, 403})
_FAILED = frozenset({500, 503})
_OBJECT = Decoder(dict[str, Any])


def judge(reply: Reply, settings: UpstreamSettings, now: float) -> None:
    """Raise the UpstreamError that a reply means, unless its status is 200.

    `now` is needed for a Retry-After that is a date.
    """
    if reply.status == 200:
        return
    redactor = _redactor(settings)
    said, status = _said(reply, redactor), reply.status
    wait = None
    if status in (429, 503):
        headers = reply.headers
        wait = clamp_retry_after(headers.get("retry-after"), headers.get("retry-after-ms"), now)
    if _is_about_the_account(status, said, settings):
        raise UpstreamAccountExhausted(upstream_status=status, reason=said.reason)
    if status in PASSED_ON and (status != 403 or said.mentions(settings.content_codes)):
        body = _passed_on(reply.body, said, redactor)
        raise UpstreamRefused(status=status, body=body, retry_after=wait, reason=said.reason)
    raise _failure(status, said.reason, wait)


def without_picture(reply: Reply, settings: UpstreamSettings) -> UpstreamError:
    """Return the error that a reply with status 200, but without a picture, means.

    It is free only if its code says that the upstream refused it.
    """
    said = _said(reply, _redactor(settings))
    if said.has_code(settings.account_codes):
        return UpstreamAccountExhausted(status=502, upstream_status=200, reason=said.reason)
    if said.has_code(settings.content_codes):
        return UpstreamFailed(retry=False, upstream_status=200, reason=said.reason)
    return UpstreamUnknown(upstream_status=200, reason=said.reason or NO_PICTURE)


def _redactor(settings: UpstreamSettings) -> Redactor:
    return Redactor([settings.key.encode()])


def _said(reply: Reply, redactor: Redactor) -> Said:
    return read_said(reply.body, reply.headers.get("content-type", ""), redactor)


def _is_about_the_account(status: int, said: Said, settings: UpstreamSettings) -> bool:
    """Whether the upstream refuses to sell to the gateway's account, whoever asks."""
    is_refusal = (400 <= status < 500 and status != 408) or status == 503
    return status == 402 or (is_refusal and said.has_code(settings.account_codes))


def _failure(status: int, reason: str | None, wait: float | None) -> UpstreamError:
    if status in _AUTH:
        return UpstreamAuth(upstream_status=status, reason=reason)
    if status in _FAILED:
        own = 502 if wait is None else 503
        return UpstreamFailed(
            status=own, retry=True, retry_after=wait, upstream_status=status, reason=reason
        )
    if 300 <= status < 500 and status != 408:
        return UpstreamFailed(retry=False, upstream_status=status, reason=reason)
    return UpstreamUnknown(upstream_status=status, reason=reason)


def _passed_on(body: bytes, said: Said, redactor: Redactor) -> bytes:
    """Return a refusal in OpenAI's shape: the upstream's own, redacted, or one with its reason."""
    error: dict[str, Any] = {
        "message": said.reason or NO_REASON,
        "type": UpstreamRefused.type,
        "param": None,
        "code": said.codes[0] if said.codes else UpstreamRefused.outcome,
    }
    try:
        refusal = _OBJECT.decode(body if len(body) <= MAX_REFUSAL_BYTES else b"")
        if isinstance(refusal["error"]["message"], str):
            safe = _redacted(refusal, redactor)
            return write_json({**safe, "error": {**error, **safe["error"]}})
    # Not JSON, of another shape, with a number that cannot be written, or too deeply nested.
    except (DecodeError, LookupError, TypeError, ValueError, RecursionError):
        pass
    return write_json({"error": error})


def _redacted(value: Any, redactor: Redactor) -> Any:
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
