"""Teams, keys, usage and requests as plain values for scripts: what `--format json` prints.

Money is a decimal string of dollars, time is ISO 8601 in UTC. A key's digest has no place here.
"""

from collections.abc import Sequence
from typing import Any

from gateway.model import AuditEntry, Key, Limits, Team, UsageRow
from gateway.rules.activity import ErrorKind, Line
from gateway.rules.keys import PREFIX
from gateway.rules.money import format_usd
from gateway.rules.windows import utc

Listing = dict[str, Any]


def team_listing(team: Team) -> Listing:
    """A team in the words of teams.toml. None means everything, or no limit."""
    return {
        "team": team.name,
        "models": _list(team.models),
        "sizes": _list(team.sizes),
        "qualities": _list(team.qualities),
        "max_n": team.max_n,
        "cache": team.cache,
        "limits": limits_listing(team.limits),
    }


def limits_listing(limits: Limits) -> Listing:
    """The six limits under their names in teams.toml."""
    return {
        "images_per_day": limits.images_per_day,
        "images_per_month": limits.images_per_month,
        "cost_per_day_usd": _usd(limits.cost_per_day),
        "cost_per_month_usd": _usd(limits.cost_per_month),
        "requests_per_minute": limits.requests_per_minute,
        "concurrent_requests": limits.concurrent_requests,
    }


def key_listing(key: Key, now: float, last_used: float | None) -> Listing:
    """A key by its public id. `line` is what its line's usage is shown under.

    `state` is what it comes to at `now`: "expired" is one too, and "retiring" for one that was
    replaced and works until its grace ends.
    """
    return {
        "id": public_id(key.id),
        "team": key.team,
        "name": key.name,
        "state": _state(key, now),
        "limits": limits_listing(key.limits),
        "created": utc(key.created),
        "expires": _utc(key.expires),
        "grace_ends": _utc(key.grace_ends),
        "last_used": _utc(last_used),
        "line": public_id(key.line),
    }


def audit_listing(entry: AuditEntry) -> Listing:
    """A line of the log of changes."""
    return {
        "at": utc(entry.at),
        "who": entry.who,
        "action": entry.action,
        "team": entry.team,
        "key": entry.key,
        "before": entry.before,
        "after": entry.after,
    }


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


def public_id(id: str) -> str:
    """A key's id as it stands in the key itself."""
    return PREFIX + id


def has_expired(key: Key, now: float) -> bool:
    """Whether the key's time was over at `now`."""
    return key.ends is not None and key.ends <= now


def _state(key: Key, now: float) -> str:
    if key.state != "revoked" and has_expired(key, now):
        return "expired"
    if key.state == "active" and key.grace_ends is not None:
        return "retiring"
    return key.state


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else utc(seconds)


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)


def _usd(micro: int | None) -> str | None:
    return None if micro is None else format_usd(micro)
