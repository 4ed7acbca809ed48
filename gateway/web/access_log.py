"""The access log: one line per request, with its team, outcome and cost. No prompt, no key."""

import structlog

from gateway.core.errors import GatewayError
from gateway.core.key_format import PREFIX
from gateway.core.money import format_usd
from gateway.core.periods import milliseconds
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord

log = structlog.get_logger(source="request")

GRAVE = {
    *("internal_error", "store_unavailable", "upstream_auth", "upstream_cut", "upstream_failed"),
    *("upstream_timeout", "upstream_unknown", "upstream_unreachable"),
}
"""Outcomes that an operator should investigate: they are logged as warnings."""


class AccessLog(Observer):
    """Logs every request, and every purchase that ends after its client has left."""

    def request_ended(self, record: RequestRecord, seconds: float) -> None:
        """Log a request that was answered, or whose client left.

        `key` is the key's public id. Times are in milliseconds: `own_ms` is `total_ms` without the
        waits for the client, the upstream and other purchases.
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
        )

    def purchase_failed(self, record: RequestRecord, failure: Exception) -> None:
        """Write where a defect of the gateway occurred: all who share the flight only see a 500."""
        if not isinstance(failure, GatewayError):
            log.error("purchase failed", id=record.id, exc_info=failure)

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        """Write what was bought: the request's own line was too early for that."""
        caller = record.caller
        log.info(
            "purchase ended without its client",
            id=record.id,
            team=caller.team.name if caller else None,
            key=caller.key.id if caller else None,
            images=record.images,
            cost_usd=format_usd(record.cost),
            exc_info=failure,
        )
