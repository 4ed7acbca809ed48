"""Current usage against the limits of teams, keys and the whole gateway, as the APIs report it.

The admin API reports on all teams, the public API on the caller's team alone.
"""

from collections.abc import Sequence

from msgspec import Struct

from gateway.core.key_format import public_id
from gateway.core.model import Key, Limits, Team
from gateway.core.money import format_usd
from gateway.core.periods import utc
from gateway.quota.account import GATEWAY, Account, team_account
from gateway.quota.status import LimitState, limit_states
from gateway.quota.store import AccountStore


class LimitLine(Struct, frozen=True, kw_only=True):
    """One limit and its usage. Money is dollars as decimal text, everything else a count."""

    limit: str
    size: int | str
    used: int | str
    held: int | str
    remaining: int | str
    resets_at: str | None


class KeyQuota(Struct, frozen=True, kw_only=True):
    """A key's own limits. The keys of a `line` share them."""

    key: str
    line: str
    name: str
    limits: list[LimitLine]


class TeamQuota(Struct, frozen=True, kw_only=True):
    """A team's limits, and those of its keys that have any."""

    team: str
    limits: list[LimitLine]
    keys: list[KeyQuota]


async def team_quotas(
    store: AccountStore, teams: Sequence[Team], keys: Sequence[Key]
) -> list[TeamQuota]:
    """Each team's limits, and those of its keys that have any. Raises StoreUnavailable."""
    loaded = await store.load([team_account(team.name) for team in teams])
    accounts = [account for account, _ in loaded.accounts]
    return [
        TeamQuota(
            team=team.name,
            limits=_limits(account, team.limits, loaded.now),
            keys=_keys(account, [key for key in keys if key.team == team.name], loaded.now),
        )
        for team, account in zip(teams, accounts, strict=True)
    ]


async def gateway_quota(store: AccountStore, limits: Limits) -> list[LimitLine]:
    """The limits of all teams together. Raises StoreUnavailable."""
    loaded = await store.load([GATEWAY])
    return _limits(loaded.accounts[0][0], limits, loaded.now)


def _keys(account: Account, keys: Sequence[Key], now: float) -> list[KeyQuota]:
    """The keys with limits of their own that are in use, a line of keys as its latest one."""
    lines = {key.line: key for key in sorted(keys, key=lambda key: key.created)}
    return [
        KeyQuota(
            key=public_id(key.id),
            line=public_id(line),
            name=key.name,
            limits=_limits(account.of_key(line), key.limits, now),
        )
        for line, key in lines.items()
        if key.limits and key.state != "revoked"
    ]


def _limits(account: Account, limits: Limits, now: float) -> list[LimitLine]:
    return [_line(state) for state in limit_states(account, limits, now)]


def _line(state: LimitState) -> LimitLine:
    shown = format_usd if state.name.endswith("_usd") else int
    return LimitLine(
        limit=state.name,
        size=shown(state.size),
        used=shown(state.used),
        held=shown(state.held),
        remaining=shown(state.remaining),
        resets_at=None if state.resets_at is None else utc(state.resets_at),
    )
