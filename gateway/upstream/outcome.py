"""What the upstream's status means for the caller and for the bill.

Free is what the upstream itself refused or failed. A status that an edge or a gateway on the way
may have said is charged as unknown, because the origin may draw all the same; so is every other
one from which nobody can tell.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

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
from gateway.core.redaction import Scrubber
from gateway.core.strict_json import write_json

MAX_REFUSAL_BYTES = 16_384
"""A longer refusal is replaced by our own: an error is a few hundred bytes, and scrubbing holds
up everybody for a millisecond each 10 KB."""

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
"""What a caller reads where the upstream's refusal is no error object."""

REFUSED = frozenset({400, 404, 422, 429})
"""What the upstream says of the request itself: it is passed on."""

_AUTH = frozenset({401, 403})
_FAILED = frozenset({500, 503})
_OBJECT = Decoder(dict[str, Any])


class Heard(Protocol):
    """What a verdict is given of: a `gateway.upstream.port.Reply`."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


def judge(reply: Heard, secrets: Sequence[bytes], now: float) -> None:
    """Pass a 200; raise the UpstreamError that any other reply means.

    `secrets` are struck out of a refusal that is passed on; `now` (seconds since the epoch) is
    for a Retry-After that is a date.
    """
    if reply.status == 200:
        return
    if reply.status in REFUSED:
        raise _refusal(reply, secrets, now)
    raise _failure(reply.status)


def _failure(status: int) -> UpstreamError:
    if status in _AUTH:
        return UpstreamAuth()
    if status in _FAILED:
        return UpstreamFailed(retry=True)
    if 300 <= status < 500 and status != 408:
        return UpstreamFailed(retry=False)
    return UpstreamUnknown()


def _refusal(reply: Heard, secrets: Sequence[bytes], now: float) -> UpstreamRefused:
    limited = reply.status == 429
    return UpstreamRefused(
        status=reply.status,
        body=_scrubbed_body(reply.body, secrets),
        retry_after=clamp_retry_after(reply.headers.get("retry-after"), now) if limited else None,
    )


def _scrubbed_body(body: bytes, secrets: Sequence[bytes]) -> bytes:
    """The upstream's error object without its secrets, written anew; ours where it is none."""
    if len(body) > MAX_REFUSAL_BYTES:
        return REPLACED
    try:
        refusal = _OBJECT.decode(body)
        if not isinstance(refusal.get("error"), dict):
            return REPLACED
        return write_json(_scrubbed(refusal, Scrubber(secrets)))
    # No JSON; a number that cannot be written; nested too deep to be read or walked.
    except (DecodeError, ValueError, RecursionError):
        return REPLACED


def _scrubbed(value: object, scrubber: Scrubber) -> object:
    """The same value with every text scrubbed, names of fields included.

    As text, not as JSON: an escape could hide a part of a secret.
    """
    if isinstance(value, str):
        return scrubber.scrub(value.encode()).decode(errors="replace")
    if isinstance(value, list):
        return [_scrubbed(each, scrubber) for each in value]
    if isinstance(value, dict):
        return {_scrubbed(k, scrubber): _scrubbed(v, scrubber) for k, v in value.items()}
    return value
