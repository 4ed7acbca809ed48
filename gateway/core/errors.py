"""All errors that a client can see, with their status, type and code.

Errors are raised anywhere below the edge, and `gateway.web` renders them once. A message has fixed
text and names that an operator chose. It never repeats what a client wrote.

No error of the public port has status 408 or 409 or is a redirect. The OpenAI SDKs send a request
again on those, and a request that is sent again may buy an image again. An error with `retry` False
makes the SDKs stop, by the header `x-should-retry: false`.
"""

from math import ceil
from typing import ClassVar

from gateway.core.model import RefusedBy


class GatewayError(Exception):
    """Base of all errors with an HTTP response.

    A subclass sets the status, type and code, and a `text` if its message is always the same.
    `outcome` is the error's label in metrics and logs, from a closed set of words.
    """

    status: int = 500
    type: str = "server_error"
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


def wait_headers(seconds: float) -> dict[str, str]:
    """Return the headers that ask clients to wait. SDKs read one or the other."""
    return {"Retry-After": str(ceil(seconds)), "retry-after-ms": str(round(seconds * 1000))}


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


class NotPermitted(GatewayError):
    """The caller is known, but may not do this."""

    status = 403
    type = "permission_error"
    outcome = "forbidden"


class KeyDisabled(NotPermitted):
    """An operator has disabled the key."""

    code = "key_disabled"
    text = "This key is disabled. Ask the gateway's operator."


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


class UnknownModel(NotFound):
    """The key may use no model of this name."""

    code = "model_not_found"
    text = "This key may use no model of this name; GET /v1/models lists the models."

    def __init__(self) -> None:
        super().__init__(param="model")


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


class BodyTooLarge(InvalidRequest):
    """The body exceeds the configured size in bytes."""

    status = 413
    code = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than {limit} bytes.")


class WrongContentType(InvalidRequest):
    """The body is not JSON in UTF-8."""

    status = 415
    code = "unsupported_content_type"


class WrongContentEncoding(WrongContentType):
    """The body has a coding that the gateway does not read."""

    text = "Send the request body uncompressed, or compressed with gzip or deflate."

    @property
    def headers(self) -> dict[str, str]:
        return {"Accept-Encoding": "gzip, deflate"}  # RFC 9110, section 12.5.3


class HeadersTooLarge(InvalidRequest):
    """The head of the request is too long: one line of it, or all of it."""

    status = 431
    code = "headers_too_large"
    text = "A header or the request line is too long."


class IdempotencyKeyReused(InvalidRequest):
    """The team has sent another body under this Idempotency-Key."""

    status = 422
    code = "idempotency_key_reused"
    retry = False
    text = (
        "This Idempotency-Key belongs to another request body. Nothing was bought: send another "
        "key, or the body that the key was first sent with."
    )


class ResultExpired(GatewayError):
    """The operation has its answer, but the gateway no longer has the picture."""

    status = 410
    type = "invalid_request_error"
    code = outcome = "result_expired"
    retry = False
    text = (
        "The gateway no longer has the pictures of this operation. They are not bought again under "
        "its name: send the request with another Idempotency-Key, or without one."
    )


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
    means nothing for other teams and keys. `refused_by` is for operators: a limit of the whole
    gateway shows what all teams use.
    """

    status = 429

    def __init__(
        self,
        message: str,
        *,
        whose: tuple[str, str] | None = None,
        refused_by: RefusedBy | None = None,
    ) -> None:
        super().__init__(message)
        self.whose = whose
        self.refused_by = refused_by


class InsufficientQuota(LimitReached):
    """A budget is used up. Waiting a minute does not help."""

    type = "insufficient_quota"
    code = "insufficient_quota"
    outcome = "insufficient_quota"
    retry = False


class RateLimited(LimitReached):
    """Too many requests at once. The same request may pass after `retry_after` seconds (1-59)."""

    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    outcome = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float,
        whose: tuple[str, str] | None = None,
        refused_by: RefusedBy | None = None,
    ) -> None:
        super().__init__(message, whose=whose, refused_by=refused_by)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return wait_headers(self.retry_after)


class Unavailable(GatewayError):
    """The gateway cannot take the request now. Nothing was charged, and a retry is welcome.

    Clients retry after `retry_after` seconds. Left to themselves, the official ones give up within
    two seconds: before a restart or a failover is over.
    """

    status = 503
    retry_after: ClassVar[int] = 3

    @property
    def headers(self) -> dict[str, str]:
        return wait_headers(self.retry_after)


class Overloaded(Unavailable):
    """The gateway has as many requests in flight, or bytes of bodies, as it may have."""

    code = outcome = "overloaded"
    text = "The gateway already serves its maximum of requests. Try again shortly."


class Draining(Unavailable):
    """The gateway is stopping, and only finishes the requests in flight."""

    code = outcome = "draining"
    text = "This gateway is shutting down. Try again shortly."


class StoreUnavailable(Unavailable):
    """The store does not answer in time or takes no writes, so no purchase can be admitted.

    `cause` completes "The store cannot be used: ..." for operators. Clients do not see it.
    """

    code = outcome = "store_unavailable"
    text = "The gateway's store does not answer, so nothing can be bought. Nothing was charged."

    def __init__(self, cause: str = "it does not answer") -> None:
        super().__init__()
        self.cause = cause


class StoreLost(StoreUnavailable):
    """The store answers, but has lost its data. A retry fails until an operator has acted."""

    text = (
        "The gateway's store has lost its data. Nothing can be bought until the gateway's operator"
        " restores the data or confirms the loss. Nothing was charged."
    )

    def __init__(self, cause: str = "it has lost its data") -> None:
        super().__init__(cause)
