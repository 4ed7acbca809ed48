"""The errors of each kind of route, and how the OpenAPI document describes their statuses."""

from collections.abc import Iterable

from gateway.core import errors as core
from gateway.core import upstream_errors as upstream
from gateway.core.admin_errors import ForeignOrigin, NotAdmin, ViewerOnly
from gateway.core.faults import InvalidFields
from gateway.proxy.named import UnknownOperation
from gateway.upstream.outcome import PASSED_ON

Errors = tuple[type[core.GatewayError], ...]

ANY_ROUTE: Errors = (core.InvalidRequest, InvalidFields, core.HeadersTooLarge, core.InternalError)
"""Errors of every route of both ports."""

WITH_BODY: Errors = (core.BodyTooLarge, core.WrongContentType, core.WrongContentEncoding)
"""Further errors of every route with a body."""

TEAM: Errors = (core.Unauthenticated, core.KeyDisabled, core.StoreUnavailable)
"""Further errors of every route of the public port."""

GENERATION: Errors = (
    *(core.NotPermitted, core.NotCached, core.IdempotencyKeyReused, core.ResultExpired),
    *(core.InsufficientQuota, core.RateLimited),
    *(core.Overloaded, core.Draining, core.StoreLost),
    *(upstream.UpstreamAccountExhausted, upstream.UpstreamAuth, upstream.UpstreamFailed),
    *(upstream.UpstreamUnreachable, upstream.UpstreamRefused),
    *(upstream.UpstreamUnknown, upstream.UpstreamCut, upstream.UpstreamTimeout),
    upstream.RepeatedUnknown,
)
"""Further errors of a request for images."""

POLL: Errors = (UnknownOperation, core.ResultExpired, *GENERATION)
"""Further errors of a poll: the operation may have had any error."""

OF_ANOTHER: Errors = (upstream.UpstreamRefused, upstream.RepeatedUnknown)
"""Errors with the status and code of another: the upstream's, or an earlier request's."""

ADMIN: Errors = (NotAdmin, core.RateLimited, core.StoreUnavailable)
"""Further errors of every route of the admin API. 404 `AdminOff` only where no token is set."""

CHANGE: Errors = (ViewerOnly, ForeignOrigin)
"""Further errors of every route of the admin API that changes something."""

_TEXTS = {
    400: "The request is invalid; the message names every fault.",
    401: "The token or key is missing or does not work.",
    403: "The token or key does not allow this.",
    404: "Nothing has this name.",
    409: "The current state forbids it.",
    410: "The answer is no longer kept.",
    412: "It has changed since the ETag in If-Match was read.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8, or has an unknown compression.",
    422: "The key of the request belongs to another one.",
    429: "Too many requests, or a limit is reached.",
    431: "A header or the URL is too long.",
    500: "A defect of the gateway.",
    502: "The upstream failed.",
    503: "The store or the upstream does not answer, the upstream's account is out of credit or it "
    "asks to wait, or the gateway is full or stopping.",
    504: "Nothing is cached and only-if-cached forbids buying, or the upstream timed out.",
}
_MANY_CODES = {core.InvalidRequest, core.NotPermitted}
"""Errors with a code for each cause, too many to list."""


def descriptions(errors: Iterable[type[core.GatewayError]]) -> dict[int, str]:
    """Describe the statuses of these errors: the meaning of each, and its codes."""
    errors = set(errors)
    passed_on = PASSED_ON if upstream.UpstreamRefused in errors else frozenset[int]()
    own = errors.difference(OF_ANOTHER)
    found = {}
    for status in sorted(passed_on.union(error.status for error in own)):
        codes = {each.code for each in own - _MANY_CODES if each.status == status}
        listed = f" ({', '.join(sorted(codes))})" if codes else ""
        refusal = "; also an upstream's refusal, passed on" if status in passed_on else ""
        found[status] = f"{_TEXTS[status].removesuffix('.')}{listed}{refusal}."
    return found
