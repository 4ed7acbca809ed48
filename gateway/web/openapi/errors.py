"""The errors of each kind of route, and how the OpenAPI document describes their statuses."""

from collections.abc import Iterable

from gateway.core.errors import (
    BodyTooLarge,
    Draining,
    ForeignOrigin,
    GatewayError,
    HeadersTooLarge,
    InsufficientQuota,
    InternalError,
    InvalidRequest,
    KeyDisabled,
    NotAdmin,
    NotCached,
    NotPermitted,
    Overloaded,
    RateLimited,
    StoreLost,
    StoreUnavailable,
    Unauthenticated,
    UpstreamAuth,
    UpstreamCut,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnknown,
    UpstreamUnreachable,
    ViewerOnly,
    WrongContentType,
)
from gateway.core.faults import InvalidFields
from gateway.upstream.outcome import REFUSED

Errors = tuple[type[GatewayError], ...]

ANY_ROUTE: Errors = (InvalidRequest, InvalidFields, HeadersTooLarge, InternalError)
"""Errors of every route of both ports."""

WITH_BODY: Errors = (BodyTooLarge, WrongContentType)

TEAM: Errors = (Unauthenticated, KeyDisabled, StoreUnavailable)
"""Further errors of every route of the public port."""

GENERATION: Errors = (
    *(NotPermitted, NotCached, InsufficientQuota, RateLimited, Overloaded, Draining, StoreLost),
    *(UpstreamAuth, UpstreamFailed, UpstreamUnreachable, UpstreamRefused),
    *(UpstreamUnknown, UpstreamCut, UpstreamTimeout),
)
"""Further errors of a request for images. `UpstreamRefused` stands for the upstream's statuses."""

ADMIN: Errors = (NotAdmin, RateLimited, StoreUnavailable)
"""Further errors of every route of the admin API. 404 `AdminOff` only where no token is set."""

CHANGE: Errors = (ViewerOnly, ForeignOrigin)
"""Further errors of every route of the admin API that changes something."""

_TEXTS = {
    400: "The request is invalid; the message names every fault.",
    401: "The token or key is missing or does not work.",
    403: "The token or key does not allow this.",
    404: "Nothing has this name.",
    409: "The current state forbids it.",
    412: "It has changed since the ETag in If-Match was read.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The upstream cannot process it.",
    429: "Too many requests, or a limit is reached.",
    431: "A header or the URL is too long.",
    500: "A defect of the gateway.",
    502: "The upstream failed.",
    503: "The store or the upstream does not answer, or the gateway is full or stopping.",
    504: "Nothing is cached and only-if-cached forbids buying, or the upstream timed out.",
}
_MANY_CODES = {InvalidRequest, NotPermitted}
"""Errors with a code for each cause, too many to list."""


def descriptions(errors: Iterable[type[GatewayError]]) -> dict[int, str]:
    """Describe the statuses of these errors: the meaning of each, and its codes."""
    errors = set(errors)
    passed_on = REFUSED if UpstreamRefused in errors else frozenset[int]()
    own = errors - {UpstreamRefused}
    found = {}
    for status in sorted(passed_on.union(error.status for error in own)):
        codes = {e.code for e in own if e.status == status and e not in _MANY_CODES}
        listed = f" ({', '.join(sorted(codes))})" if codes else ""
        refusal = "; also an upstream's refusal, passed on" if status in passed_on else ""
        found[status] = f"{_TEXTS[status].removesuffix('.')}{listed}{refusal}."
    return found
