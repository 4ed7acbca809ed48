"""Which errors a route may answer, for the OpenAPI document: their statuses and codes."""

from collections.abc import Iterable

from gateway.core.errors import (
    AdminOff,
    BodyTooLarge,
    Conflicting,
    Draining,
    ForeignOrigin,
    GatewayError,
    HeadersTooLarge,
    InsufficientQuota,
    InternalError,
    InvalidRequest,
    KeyDisabled,
    NoSuchThing,
    NotAdmin,
    NotCached,
    NotPermitted,
    Overloaded,
    PreconditionFailed,
    RateLimited,
    StoreLost,
    StoreUnavailable,
    Unauthenticated,
    UpstreamAuth,
    UpstreamCut,
    UpstreamFailed,
    UpstreamTimeout,
    UpstreamUnknown,
    UpstreamUnreachable,
    ViewerOnly,
    WrongContentType,
)
from gateway.upstream.outcome import REFUSED

Errors = tuple[type[GatewayError], ...]

ANYWHERE: Errors = (InvalidRequest, HeadersTooLarge, InternalError)
"""What every route of both ports may answer."""

WITH_BODY: Errors = (BodyTooLarge, WrongContentType)

TEAM: Errors = (Unauthenticated, KeyDisabled, StoreUnavailable)
"""What every route of the public port may answer besides."""

IMAGES: Errors = (
    *(NotPermitted, NotCached, InsufficientQuota, RateLimited, Overloaded, Draining, StoreLost),
    *(UpstreamAuth, UpstreamFailed, UpstreamUnreachable),
    *(UpstreamUnknown, UpstreamCut, UpstreamTimeout),
)
"""What a request for images may come to besides; `UpstreamRefused` has the upstream's statuses."""

ADMIN: Errors = (NotAdmin, RateLimited, StoreUnavailable)
"""What every route of the admin port may answer; 404 `AdminOff` only where it is switched off."""

CHANGING: Errors = (ViewerOnly, ForeignOrigin)
BY_STATUS: Errors = (NoSuchThing, AdminOff, Conflicting, PreconditionFailed)
"""What a route of the admin port names by its status."""

_TEXTS = {
    400: "The request is not as described here; the message names every fault.",
    401: "No token or key, or one that does not work.",
    403: "The token or key does not allow this.",
    404: "There is nothing of that name.",
    409: "How things stand forbids it.",
    412: "It was changed since If-Match's ETag was read.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The upstream cannot process it.",
    429: "Too much at once, or a limit is reached.",
    431: "A header or the URL is too long.",
    500: "A defect of the gateway.",
    502: "The upstream did not deliver.",
    503: "The store or the upstream is away, or the gateway is full or stopping.",
    504: "Nothing is kept and only-if-cached forbids buying, or the upstream took too long.",
}
_ANY_CODE = {InvalidRequest, NotPermitted}
"""Those whose code tells the cause: there is one for each."""


def told(errors: Iterable[type[GatewayError]], *, images: bool = False) -> dict[int, str]:
    """The statuses of these errors, each with what it means and the codes that it comes with.

    Where `images` are asked for, the upstream's refusals are passed on.
    """
    statuses = REFUSED if images else frozenset[int]()
    errors = list(errors)
    found = {}
    for status in sorted(statuses.union(error.status for error in errors)):
        codes = {e.code for e in errors if e.status == status and e not in _ANY_CODE}
        passed = "; also what the upstream refused, in its words" if status in statuses else ""
        listed = f" ({', '.join(sorted(codes))})" if codes else ""
        found[status] = f"{_TEXTS[status].removesuffix('.')}{listed}{passed}."
    return found
