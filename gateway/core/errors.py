"""Every error that a client can see: its status, type, code and what an SDK should do about it.

Errors are raised anywhere below the edge and rendered once, in `gateway.web`. The texts are fixed
or made of names that an operator chose: nothing a client wrote is ever repeated in one.

Never 408 or 409 and never a redirect: the OpenAI SDKs send a request again on those, and a request
sent again may be an image bought again. `retry` False is told to them as `x-should-retry: false`.
"""

from math import ceil
from typing import ClassVar


class GatewayError(Exception):
    """Base of all errors with an HTTP answer.

    `outcome` is the value of the metrics' and the log's outcome label: from a closed set.
    """

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    outcome: ClassVar[str] = "internal_error"
    retry: bool = True

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to this error alone."""
        return {} if self.retry else {"x-should-retry": "false"}


class InternalError(GatewayError):
    """A defect of the gateway. Not to be retried: the image may have been bought already."""

    retry = False

    def __init__(self) -> None:
        super().__init__(
            "The gateway failed on this request. Its operator can find it by the request id."
        )


# -- the caller ---------------------------------------------------------------------------------


class Unauthenticated(GatewayError):
    """No key, or one that does not work. One fixed text: it tells nobody which keys exist."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    outcome = "unauthenticated"

    def __init__(self) -> None:
        super().__init__(
            "A valid gateway key is required: send it as 'Authorization: Bearer sk-gw-...'."
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class NotPermitted(GatewayError):
    """The key is known, and this is not allowed to it."""

    status = 403
    type = "permission_error"
    outcome = "forbidden"


class KeyDisabled(NotPermitted):
    """The key is right, and an operator has switched it off for now."""

    code = "key_disabled"

    def __init__(self) -> None:
        super().__init__("This key is disabled. Ask the gateway's operator.")


class AdminOff(GatewayError):
    """No admin token is configured: only metrics and health answer."""

    status = 404
    type = "invalid_request_error"
    code = "admin_off"
    outcome = "not_found"

    def __init__(self) -> None:
        super().__init__(
            "The admin API is off: no admin token is configured. Set GATEWAY_ADMIN_TOKEN."
        )


class NotAdmin(GatewayError):
    """No admin token, or a wrong one."""

    status = 401
    type = "authentication_error"
    code = "invalid_admin_token"
    outcome = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("A valid admin token is required: send it as 'Authorization: Bearer ...'.")

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class ViewerOnly(NotPermitted):
    """The token is right, and may look but not change."""

    code = "role_not_allowed"

    def __init__(self) -> None:
        super().__init__("This token's role is viewer: it may read and change nothing.")


class ForeignOrigin(NotPermitted):
    """A session's cookie came with a request that the dashboard did not make."""

    code = "foreign_origin"

    def __init__(self) -> None:
        super().__init__("A session works only for requests that the dashboard itself makes.")


# -- the request --------------------------------------------------------------------------------


class InvalidRequest(GatewayError):
    """The request cannot be served as it stands; it has cost nothing."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    outcome = "invalid_request"


class NotFound(InvalidRequest):
    status = 404
    code = "not_found"
    outcome = "not_found"

    def __init__(self) -> None:
        super().__init__("There is no such route.")


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"
    outcome = "not_found"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This route answers {allowed} only.")
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self.allowed}


class NoSuchThing(InvalidRequest):
    """A team or key that is asked for by name is not there."""

    status = 404
    code = "no_such_thing"
    outcome = "not_found"


class Conflicting(InvalidRequest):
    """How things stand forbids it. The admin API alone says 409: no image is bought there."""

    status = 409
    code = "conflict"


class PreconditionFailed(InvalidRequest):
    """Somebody changed it since the client read it (RFC 9110, section 13.1.1)."""

    status = 412
    code = "precondition_failed"


class BodyTooLarge(InvalidRequest):
    status = 413
    code = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than {limit} bytes.")


class WrongContentType(InvalidRequest):
    status = 415
    code = "unsupported_content_type"

    def __init__(self, message: str = "Send the request as application/json.") -> None:
        super().__init__(message)


class HeadersTooLarge(InvalidRequest):
    status = 431
    code = "headers_too_large"

    def __init__(self) -> None:
        super().__init__("A header or the request line is too long.")


class NotCached(InvalidRequest):
    """`only-if-cached` was asked for and there is nothing kept (RFC 9111, section 5.2.1.7)."""

    status = 504
    code = "not_cached"
    outcome = "not_cached"
    retry = False

    def __init__(self) -> None:
        super().__init__("No kept answer for this request, and only-if-cached forbids buying one.")


# -- quota and capacity -------------------------------------------------------------------------


class LimitReached(GatewayError):
    """A limit stands in the way. `whose` is its scope and owner, as in `gateway.quota.limits`: to
    others than its owner it is nothing. None: it is everybody's.
    """

    status = 429

    def __init__(self, message: str, *, whose: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.whose = whose


class InsufficientQuota(LimitReached):
    """A budget is used up: waiting a minute will not help."""

    type = "insufficient_quota"
    code = "insufficient_quota"
    outcome = "insufficient_quota"
    retry = False


class RateLimited(LimitReached):
    """Too much at once: the same request can be admitted after `retry_after` seconds (1 to 60)."""

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
    """The gateway cannot take this now; nothing was charged and a retry is welcome."""

    status = 503


class Overloaded(Unavailable):
    code = outcome = "overloaded"

    def __init__(self) -> None:
        super().__init__("The gateway has as many requests in flight as it may. Try again shortly.")


class Draining(Unavailable):
    code = outcome = "draining"

    def __init__(self) -> None:
        super().__init__("This gateway is shutting down. Try again shortly.")


class StoreUnavailable(Unavailable):
    """The store gave no answer in time, so no purchase can be admitted."""

    code = outcome = "store_unavailable"
    text: ClassVar[str] = "The quota store is away, so nothing can be bought. Nothing was charged."

    def __init__(self) -> None:
        super().__init__(self.text)


class StoreLost(StoreUnavailable):
    """The store is there and has lost its data: no retry helps before an operator has acted."""

    text = (
        "The quota store has lost its data, so nothing can be bought until the gateway's operator"
        " brings them back or confirms the loss. Nothing was charged."
    )


# -- the upstream -------------------------------------------------------------------------------


class UpstreamError(GatewayError):
    """The upstream did not deliver. `charged`: the images have to be paid all the same."""

    status = 502
    type = "upstream_error"
    code = outcome = "upstream_failed"
    charged: ClassVar[bool] = False


class UpstreamAuth(UpstreamError):
    """The upstream refused the gateway's own key: the operator must act, a retry cannot help."""

    code = outcome = "upstream_auth"
    retry = False

    def __init__(self) -> None:
        super().__init__("The upstream refused the gateway's credentials. Nothing was charged.")


class UpstreamFailed(UpstreamError):
    """The upstream said plainly that it failed: nothing was drawn, nothing is charged."""

    def __init__(self, *, retry: bool) -> None:
        super().__init__("The upstream failed on this request. Nothing was charged.")
        self.retry = retry


class UpstreamUnreachable(UpstreamError):
    """No connection came about, so nothing was sent."""

    status = 503
    code = outcome = "upstream_unreachable"

    def __init__(self) -> None:
        super().__init__("The upstream cannot be reached. Nothing was charged.")


class UpstreamUnknown(UpstreamError):
    """Nobody can tell whether the images were drawn, so they count as bought."""

    code = outcome = "upstream_unknown"
    charged = True
    retry = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or "The upstream's answer is unusable. Images may have been drawn: they are charged."
        )


class UpstreamCut(UpstreamUnknown):
    code = outcome = "upstream_cut"

    def __init__(self) -> None:
        super().__init__(
            "The upstream's answer was cut off. Images may have been drawn: they are charged."
        )


class UpstreamTimeout(UpstreamUnknown):
    status = 504
    code = outcome = "upstream_timeout"

    def __init__(self) -> None:
        super().__init__(
            "The upstream did not answer in time. Images may have been drawn: they are charged."
        )


class UpstreamRefused(UpstreamError):
    """The upstream refused this very request: its status and scrubbed body are passed on."""

    outcome = "upstream_refused"

    def __init__(self, *, status: int, body: bytes, retry_after: int | None = None) -> None:
        super().__init__("The upstream refused this request.")
        self.status = status
        self.body = body
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
