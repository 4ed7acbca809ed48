"""Usage, recent requests and errors as plain values, as JSON output shows them."""

from collections.abc import Sequence

from gateway.core.model import UsageRow
from gateway.core.money import format_usd
from gateway.core.periods import utc
from gateway.reporting.request_lines import ErrorKind, Line
from gateway.tenants.views import Listing, public_id


def line_listing(line: Line) -> Listing:
    """A recent request, or several alike. Times are in milliseconds."""
    return {
        "at": utc(line.at),
        "id": line.id,
        "team": line.team,
        "key": None if line.key is None else public_id(line.key),
        "model": line.model,
        "size": line.size,
        "quality": line.quality,
        "outcome": line.outcome,
        "status": line.status,
        "code": line.code,
        "requests": line.requests,
        "images": line.images,
        "cost_usd": format_usd(line.cost),
        "saved_usd": format_usd(line.saved),
        "total_ms": _milliseconds(line.total),
        "own_ms": _milliseconds(line.own),
        "upstream_ms": None if line.upstream is None else _milliseconds(line.upstream),
        "fingerprint": line.fingerprint,
        "route": line.route,
    }


def error_listing(kind: ErrorKind) -> Listing:
    """A kind of error."""
    return {
        "outcome": kind.outcome,
        "code": kind.code,
        "status": kind.status,
        "requests": kind.requests,
        "last_at": utc(kind.last_at),
        "last_id": kind.last_id,
    }


def usage_listing(by: Sequence[str], row: UsageRow) -> Listing:
    """A row of usage: the fields that it was grouped by, then the sums."""
    group = {
        field: public_id(value) if field == "key" else value
        for field, value in zip(by, row.group, strict=True)
    }
    return group | usage_sums([row])


def usage_total(by: Sequence[str], rows: Sequence[UsageRow]) -> Listing:
    """All rows as one, for the last line of a table."""
    group = dict.fromkeys(by, "")
    group.update(dict.fromkeys(by[:1], "total"))
    return group | usage_sums(rows)


def usage_sums(rows: Sequence[UsageRow]) -> Listing:
    """What all rows come to together."""
    return {
        "requests": sum(row.requests for row in rows),
        "requests_refused": sum(row.requests_refused for row in rows),
        "images_bought": sum(row.images_bought for row in rows),
        "images_cached": sum(row.images_cached for row in rows),
        "images_coalesced": sum(row.images_coalesced for row in rows),
        "images_unknown": sum(row.images_unknown for row in rows),
        "cost_usd": format_usd(sum(row.cost for row in rows)),
        "saved_usd": format_usd(sum(row.saved for row in rows)),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
