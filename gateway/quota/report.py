"""How the limits of teams, keys and the gateway stand, as plain values for scripts.

The admin API tells all of it, a team about itself alone.
"""

from collections.abc import Sequence

from gateway.core.key_format import public_id
from gateway.core.listing import Listing
from gateway.core.model import Key, Limits, Team
from gateway.core.money import format_usd
from gateway.core.periods import utc
from gateway.quota.account import GATEWAY, Account, team_account
from gateway.quota.status import LimitState, limit_states
from gateway.quota.store import AccountStore


async def team_quotas(
    store: AccountStore, teams: Sequence[Team], keys: Sequence[Key]
) -> list[Listing]:
    """Each team's limits, and those of its keys that have any. Raises StoreUnavailable."""
    loaded = await store.load([team_account(team.name) for team in teams])
    accounts = [account for account, _ in loaded.accounts]
    return [
        {
            "team": team.name,
            "limits": _limits(account, team.limits, loaded.now),
            "keys": _keys(account, [key for key in keys if key.team == team.name], loaded.now),
        }
        for team, account in zip(teams, accounts, strict=True)
    ]


async def gateway_quota(store: AccountStore, limits: Limits) -> list[Listing]:
    """The limits of all teams together. Raises StoreUnavailable."""
    loaded = await store.load([GATEWAY])
    return _limits(loaded.accounts[0][0], limits, loaded.now)


def _keys(account: Account, keys: Sequence[Key], now: float) -> list[Listing]:
    """The keys with limits of their own that are in use, a line of keys as its latest one."""
    lines = {key.line: key for key in sorted(keys, key=lambda key: key.created)}
    return [
        {
            "key": public_id(key.id),
            "line": public_id(line),
            "name": key.name,
            "limits": _limits(account.of_key(line), key.limits, now),
        }
        for line, key in lines.items()
        if key.limits and key.state != "revoked"
    ]


def _limits(account: Account, limits: Limits, now: float) -> list[Listing]:
    return [_listing(state) for state in limit_states(account, limits, now)]


def _listing(state: LimitState) -> Listing:
    shown = format_usd if state.name.endswith("_usd") else int
    return {
        "limit": state.name,
        "size": shown(state.size),
        "used": shown(state.used),
        "held": shown(state.held),
        "remaining": shown(state.remaining),
        "resets_at": None if state.resets_at is None else utc(state.resets_at),
    }
