"""Errors of purchases: the upstream did not deliver, or is not asked again."""

from typing import ClassVar

from gateway.core.errors import GatewayError, wait_headers

MAX_REASON = 500
"""The most characters of an upstream's reason."""


class UpstreamError(GatewayError):
    """The upstream did not deliver. With `charged`, the images must be paid all the same.

    `upstream_status` is the status that the upstream answered, None if it did not answer.
    `reason` is what it said in words, at most `MAX_REASON` characters without secrets, None if it
    said nothing. The message ends with both. `shown_reason` is the reason as logs show it, kept
    here because all who share the purchase sent the same prompt. `retry_after` is the upstream's
    wait in seconds, from 1 to 59. `status` and `retry` replace those of the class.
    """

    status = 502
    type = "upstream_error"
    code = outcome = "upstream_failed"
    charged: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int | None = None,
        retry: bool | None = None,
        retry_after: float | None = None,
        upstream_status: int | None = None,
        reason: str | None = None,
    ) -> None:
        if upstream_status is not None and reason is not None:
            reason = _without_status(reason, upstream_status)
        if message is None and upstream_status is not None:
            said = "." if reason is None else f": {reason}"
            message = f"{self.text} The upstream answered {upstream_status}{said}"
        super().__init__(message)
        self.status = self.status if status is None else status
        self.retry = self.retry if retry is None else retry
        self.retry_after = retry_after
        self.upstream_status = upstream_status
        self.reason = reason
        self.shown_reason: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        wait = {} if self.retry_after is None else wait_headers(self.retry_after)
        return super().headers | wait


def _without_status(reason: str, status: int) -> str | None:
    """Return a reason such as "502 Bad Gateway" without the status that it begins with."""
    first, _, rest = reason.partition(" ")
    return reason if first.rstrip(":") != str(status) else rest or None


class UpstreamAuth(UpstreamError):
    """The upstream refused the gateway's own key. The operator must act: a retry cannot help."""

    code = outcome = "upstream_auth"
    retry = False
    text = "The upstream refused the gateway's credentials. Nothing was charged."


class UpstreamAccountExhausted(UpstreamError):
    """The account that the gateway buys with is out of credit. The operator must act."""

    status = 503
    code = outcome = "upstream_account_exhausted"
    retry = False
    text = (
        "The gateway's own account at the upstream is out of credit or inactive. No limit of your"
        " team is reached, and nothing was charged."
    )


class UpstreamFailed(UpstreamError):
    """The upstream said clearly that it failed, so nothing was generated and nothing is charged."""

    text = "The upstream failed on this request. Nothing was charged."


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


class RepeatedUnknown(GatewayError):
    """The request repeats one of unknown outcome, so it is not bought. It costs nothing.

    Status and code are those of the first one, which has the request id `first`. `record` names the
    record of their operations.
    """

    type = "upstream_error"
    outcome = "repeated_unknown"
    retry = False

    def __init__(self, message: str, *, status: int, code: str, record: str, first: str) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.record = record
        self.first = first


class UpstreamRefused(UpstreamError):
    """The upstream refused this request. Its status is passed on, with a body without secrets."""

    code = outcome = "upstream_refused"
    text = "The upstream refused this request."

    def __init__(
        self,
        *,
        status: int,
        body: bytes,
        retry_after: float | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(
            status=status, retry_after=retry_after, upstream_status=status, reason=reason
        )
        self.body = body
