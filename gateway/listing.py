"""Teams, keys and usage as plain values for scripts: what `--format json` prints.

Money is a decimal string of dollars, time is ISO 8601 in UTC. A key's digest has no place here.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.model import Key, Limits, Team, UsageRow
from gateway.rules.keys import PREFIX
from gateway.rules.money import format_usd

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


def key_listing(key: Key, now: float) -> Listing:
    """A key by its public id. `state` is what it comes to at `now`: "expired" is one too."""
    return {
        "id": public_id(key.id),
        "team": key.team,
        "name": key.name,
        "state": "expired" if has_expired(key, now) and key.state != "revoked" else key.state,
        "created": utc(key.created),
        "expires": None if key.expires is None else utc(key.expires),
    }


def usage_listing(by: Sequence[str], row: UsageRow) -> Listing:
    """A row of usage: the fields that it was grouped by, then the sums."""
    group = {
        field: public_id(value) if field == "key" else value
        for field, value in zip(by, row.group, strict=True)
    }
    return group | _sums([row])


def usage_total(by: Sequence[str], rows: Sequence[UsageRow]) -> Listing:
    """All rows as one, for the last line of a table."""
    group = dict.fromkeys(by, "")
    group.update(dict.fromkeys(by[:1], "total"))
    return group | _sums(rows)


def _sums(rows: Sequence[UsageRow]) -> Listing:
    return {
        "requests": sum(row.requests for row in rows),
        "images_bought": sum(row.images_bought for row in rows),
        "images_cached": sum(row.images_cached for row in rows),
        "images_unknown": sum(row.images_unknown for row in rows),
        "cost_usd": format_usd(sum(row.cost for row in rows)),
        "saved_usd": format_usd(sum(row.saved for row in rows)),
    }


def public_id(id: str) -> str:
    """A key's id as it stands in the key itself."""
    return PREFIX + id


def has_expired(key: Key, now: float) -> bool:
    """Whether the key's time was over at `now`."""
    return key.expires is not None and key.expires <= now


def utc(seconds: float) -> str:
    """A time as ISO 8601, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)


def _usd(micro: int | None) -> str | None:
    return None if micro is None else format_usd(micro)
