"""All errors that a client can see, with their status, type and code.

Errors are raised anywhere below the edge, and `gateway.web` renders them once. A message has fixed
text and names that an operator chose. It never repeats what a client wrote.

No error of the public port has status 408 or 409 or is a redirect. The OpenAI SDKs send a request
again on those, and a request that is sent again may buy an image again. An error with `retry` False
makes the SDKs stop, by the header `x-should-retry: false`.
"""

from math import ceil
from typing import ClassVar


class GatewayError(Exception):
    """Base of all errors with an HTTP response.

    A subclass sets the status, type and code, and a `text` if its message is always the same.
    `outcome` is the error's label in metrics and logs, from a closed set of words.
    """

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    outcome: ClassVar[str] = "internal_error"
    retry: bool = True
    text: ClassVar[str] = ""

    def __init__(
        self, message: str | None = None, *, param: str | None = None, code: str | None = None
    ) -> None:
        self.message = self.text if message is None else message
        super().__init__(self.message)
        self.param = param
        if code is not None:
            self.code = code

    @property
    def headers(self) -> dict[str, str]:
        """The headers that this error adds to its response."""
        return {} if self.retry else {"x-should-retry": "false"}


class InternalError(GatewayError):
    """A defect of the gateway. A retry might buy the image again."""

    retry = False
    text = "The gateway failed on this request. Its operator can find it by the request id."


# -- the caller ---------------------------------------------------------------------------------


class Unauthenticated(GatewayError):
    """The key is missing or invalid. The text is fixed, so nobody learns which keys exist."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    outcome = "unauthenticated"
    text = "A valid gateway key is required: send it as 'Authorization: Bearer sk-gw-...'."

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class NotAdmin(Unauthenticated):
    """The admin token is missing or wrong."""

    code = "invalid_admin_token"
    text = "A valid admin token is required: send it as 'Authorization: Bearer ...'."


class NotPermitted(GatewayError):
    """The caller is known, but may not do this."""

    status = 403
    type = "permission_error"
    outcome = "forbidden"


class KeyDisabled(NotPermitted):
    """An operator has disabled the key."""

    code = "key_disabled"
    text = "This key is disabled. Ask the gateway's operator."


class ViewerOnly(NotPermitted):
    """The admin token may read but not change."""

    code = "role_not_allowed"
    text = "This token has the viewer role: it may read, but not change anything."


class ForeignOrigin(NotPermitted):
    """The session's cookie came with a request from another site than the dashboard."""

    code = "foreign_origin"
    text = "A session only works for requests from the dashboard itself."


class AdminOff(GatewayError):
    """No admin token is configured, so the admin port only serves metrics and health."""

    status = 404
    type = "invalid_request_error"
    code = "admin_off"
    outcome = "not_found"
    text = "The admin API is off: no admin token is configured. Set GATEWAY_ADMIN_TOKEN."


# -- the request --------------------------------------------------------------------------------


class InvalidRequest(GatewayError):
    """The request is wrong. It has cost nothing."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    outcome = "invalid_request"


class NotFound(InvalidRequest):
    """The path is not one of the routes."""

    status = 404
    code = "not_found"
    outcome = "not_found"
    text = "There is no such route."


class MethodNotAllowed(InvalidRequest):
    """The route does not have this method. `allowed` lists those that it has."""

    status = 405
    code = "method_not_allowed"
    outcome = "not_found"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This route only accepts {allowed}.")
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self.allowed}


class NoSuchThing(InvalidRequest):
    """There is no team or key of this name."""

    status = 404
    code = "no_such_thing"
    outcome = "not_found"


class Conflicting(InvalidRequest):
    """The current state forbids the change.

    Only the admin API uses 409: no image is bought there, so a retry is harmless.
    """

    status = 409
    code = "conflict"


class PreconditionFailed(InvalidRequest):
    """It has changed since the client read it (RFC 9110, section 13.1.1)."""

    status = 412
    code = "precondition_failed"


class BodyTooLarge(InvalidRequest):
    """The body exceeds the configured size in bytes."""

    status = 413
    code = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than {limit} bytes.")


class WrongContentType(InvalidRequest):
    """The body is not JSON, or is encoded."""

    status = 415
    code = "unsupported_content_type"
    text = "Send the request as application/json."


class HeadersTooLarge(InvalidRequest):
    """The head of the request is too long: one line of it, or all of it."""

    status = 431
    code = "headers_too_large"
    text = "A header or the request line is too long."


class NotCached(InvalidRequest):
    """A cache miss with `only-if-cached` (RFC 9111, section 5.2.1.7)."""

    status = 504
    code = "not_cached"
    outcome = "not_cached"
    retry = False
    text = "The cache has no answer to this request, and only-if-cached forbids buying one."


# -- quota and capacity -------------------------------------------------------------------------


class LimitReached(GatewayError):
    """A limit refuses the request.

    `whose` is the scope and name of the limit's owner, or None if it is the gateway's. The refusal
    means nothing for other teams and keys.
    """

    status = 429

    def __init__(self, message: str, *, whose: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.whose = whose


class InsufficientQuota(LimitReached):
    """A budget is used up. Waiting a minute does not help."""

    type = "insufficient_quota"
    code = "insufficient_quota"
    outcome = "insufficient_quota"
    retry = False


class RateLimited(LimitReached):
    """Too many requests at once. The same request may pass after `retry_after` seconds (1-60)."""

    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    outcome = "rate_limited"

    def __init__(
        self, message: str, *, retry_after: float, whose: tuple[str, str] | None = None
    ) -> None:
        super().__init__(message, whose=whose)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Retry-After": str(ceil(self.retry_after)),
            "retry-after-ms": str(round(self.retry_after * 1000)),
        }


class Unavailable(GatewayError):
    """The gateway cannot take the request now. Nothing was charged, and a retry is welcome."""

    status = 503


class Overloaded(Unavailable):
    """The gateway has as many requests in flight as its configuration allows."""

    code = outcome = "overloaded"
    text = "The gateway already serves its maximum of requests. Try again shortly."


class Draining(Unavailable):
    """The gateway is stopping, and only finishes the requests in flight."""

    code = outcome = "draining"
    text = "This gateway is shutting down. Try again shortly."


class StoreUnavailable(Unavailable):
    """The store does not answer in time, so no purchase can be admitted."""

    code = outcome = "store_unavailable"
    text = "The gateway's store does not answer, so nothing can be bought. Nothing was charged."


class StoreLost(StoreUnavailable):
    """The store answers, but has lost its data. A retry fails until an operator has acted."""

    text = (
        "The gateway's store has lost its data. Nothing can be bought until the gateway's operator"
        " restores the data or confirms the loss. Nothing was charged."
    )


# -- the upstream -------------------------------------------------------------------------------


class UpstreamError(GatewayError):
    """The upstream did not deliver. With `charged`, the images must be paid all the same."""

    status = 502
    type = "upstream_error"
    code = outcome = "upstream_failed"
    charged: ClassVar[bool] = False


class UpstreamAuth(UpstreamError):
    """The upstream refused the gateway's own key. The operator must act: a retry cannot help."""

    code = outcome = "upstream_auth"
    retry = False
    text = "The upstream refused the gateway's credentials. Nothing was charged."


class UpstreamFailed(UpstreamError):
    """The upstream said clearly that it failed, so nothing was generated and nothing is charged."""

    text = "The upstream failed on this request. Nothing was charged."

    def __init__(self, *, retry: bool) -> None:
        super().__init__()
        self.retry = retry


class UpstreamUnreachable(UpstreamError):
    """The connection failed, so nothing was sent."""

    status = 503
    code = outcome = "upstream_unreachable"
    text = "The upstream cannot be reached. Nothing was charged."


class UpstreamUnknown(UpstreamError):
    """It is unknown whether the images were generated, so they count as bought."""

    code = outcome = "upstream_unknown"
    charged = True
    retry = False
    text = "The upstream's response is unusable. Images may have been generated: they are charged."


class UpstreamCut(UpstreamUnknown):
    """The connection broke after the request was sent."""

    code = outcome = "upstream_cut"
    text = "The upstream's response was cut off. Images may have been generated: they are charged."


class UpstreamTimeout(UpstreamUnknown):
    """The upstream did not answer within its deadline."""

    status = 504
    code = outcome = "upstream_timeout"
    text = "The upstream did not answer in time. Images may have been generated: they are charged."


class UpstreamRefused(UpstreamError):
    """The upstream refused this request. Its status and its redacted body are passed on."""

    outcome = "upstream_refused"
    text = "The upstream refused this request."

    def __init__(self, *, status: int, body: bytes, retry_after: int | None = None) -> None:
        super().__init__()
        self.status = status
        self.body = body
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
