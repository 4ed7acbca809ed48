"""Teams, keys, usage and requests as plain values for scripts: what `--format json` prints.

Money is a decimal string of dollars, time is ISO 8601 in UTC. A key's digest has no place here.
"""

from collections.abc import Sequence

from gateway.core.key_format import public_id
from gateway.core.listing import Listing
from gateway.core.model import AuditEntry, Key, Limits, Team
from gateway.core.money import format_usd
from gateway.core.periods import utc


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


def has_expired(key: Key, now: float) -> bool:
    """Whether the key's time was over at `now`."""
    return key.ends is not None and key.ends <= now


def _state(key: Key, now: float) -> str:
    if key.state != "revoked" and has_expired(key, now):
        return "expired"
    if key.state == "active" and key.grace_ends is not None:
        return "retiring"
    return key.state


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else utc(seconds)


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)


def _usd(micro: int | None) -> str | None:
    return None if micro is None else format_usd(micro)
