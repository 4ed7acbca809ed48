"""The access log: one line per request, with its team, outcome and cost. No prompt, no key."""

from math import inf

import structlog

from gateway.core.errors import GatewayError
from gateway.core.key_format import PREFIX
from gateway.core.listing import listing
from gateway.core.money import format_usd
from gateway.core.periods import milliseconds
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord

log = structlog.get_logger(source="request")

FALLBACK_SECONDS = 60.0
"""The least time between two lines about purchases without usable token usage."""

GRAVE = {
    *("internal_error", "store_unavailable", "upstream_account_exhausted", "upstream_auth"),
    *("upstream_cut", "upstream_failed", "upstream_timeout", "upstream_unknown"),
    "upstream_unreachable",
}
"""Outcomes that an operator should investigate: they are logged as warnings."""


class AccessLog(Observer):
    """Logs every request, and every purchase that ends after its client has left.

    Purchases with more images than asked for are logged, too, and once a minute those whose tokens
    are unknown.
    """

    def __init__(self) -> None:
        self._fallbacks = 0
        self._fallbacks_logged_at = -inf

    def request_ended(self, record: RequestRecord, seconds: float) -> None:
        """Log a request that was answered, or whose client left.

        `key` is the key's public id. Times are in milliseconds: `own_ms` is `total_ms` without the
        waits for the client, the upstream and other purchases. See `_cause` for further fields.
        """
        caller, upstream = record.caller, record.upstream
        write = log.warning if record.outcome in GRAVE else log.info
        write(
            "request",
            id=record.id,
            team=caller.team.name if caller else None,
            key=PREFIX + caller.key.id if caller else None,
            route=record.route,
            model=record.request.model if record.request else None,
            outcome=record.outcome,
            status=record.status,
            code=record.code,
            images=record.images,
            cost_usd=format_usd(record.cost),
            saved_usd=format_usd(record.saved),
            total_ms=milliseconds(seconds),
            own_ms=milliseconds(record.own_seconds(seconds)),
            upstream_ms=None if upstream is None else milliseconds(upstream),
            **_cause(record),
        )

    def purchase_failed(self, record: RequestRecord, failure: Exception) -> None:
        """Write where a defect of the gateway occurred: all who share the flight only see a 500."""
        if not isinstance(failure, GatewayError):
            log.error("purchase failed", id=record.id, exc_info=failure)

    def excess_delivered(self, record: RequestRecord) -> None:
        """Write that the upstream delivered, and the gateway charged, more than was asked for."""
        caller, request = record.caller, record.request
        log.warning(
            "more images than asked for",
            id=record.id,
            team=caller.team.name if caller else None,
            asked=request.n if request else None,
            images=record.images,
            cost_usd=format_usd(record.cost),
        )

    def usage_fell_back(self, record: RequestRecord) -> None:
        """Write how many purchases were billed by the price table, since the last such line."""
        self._fallbacks += 1
        now = record.clock()
        if now - self._fallbacks_logged_at >= FALLBACK_SECONDS:
            log.warning(
                "no usable token usage, charged by the price table",
                id=record.id,
                model=record.request.model if record.request else None,
                purchases=self._fallbacks,
            )
            self._fallbacks, self._fallbacks_logged_at = 0, now

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        """Write what was bought: the request's own line was too early for that."""
        caller = record.caller
        log.info(
            "purchase ended without its client",
            id=record.id,
            team=caller.team.name if caller else None,
            key=PREFIX + caller.key.id if caller else None,
            outcome=record.outcome,
            images=record.images,
            cost_usd=format_usd(record.cost),
            exc_info=failure,
            **_cause(record),
        )


def _cause(record: RequestRecord) -> dict[str, object]:
    """Return why a request failed: the upstream's answer, the first attempt, or the limit."""
    cause: dict[str, object] = {}
    if record.upstream_status is not None:
        cause["upstream_status"] = record.upstream_status
    if record.reason is not None:
        cause["reason"] = record.reason
    if record.refused_by is not None:
        cause["refused_by"] = listing(record.refused_by)
    return cause
