"""The limits of teams, keys and the gateway in public form: their size, usage and reset."""

from collections.abc import Sequence

from msgspec import Struct

from gateway.core.key_format import KeyId
from gateway.core.model import Key, Limits, Team
from gateway.core.money import format_usd
from gateway.core.periods import Timestamp
from gateway.core.tasks import in_turns
from gateway.quota.account import GATEWAY, Account, team_account
from gateway.quota.limits import limit_states
from gateway.quota.store import AccountStore


class LimitLine(Struct, frozen=True, kw_only=True):
    """One limit. Money is dollars as decimal text, everything else a count."""

    limit: str
    size: int | str
    used: int | str
    held: int | str
    remaining: int | str
    resets_at: Timestamp | None


class KeyQuota(Struct, frozen=True, kw_only=True):
    """The limits of a key. The keys of a `line` share them."""

    key: KeyId
    line: KeyId
    name: str
    limits: list[LimitLine]


class TeamQuota(Struct, frozen=True, kw_only=True):
    """The limits of a team, and of its keys that have any."""

    team: str
    limits: list[LimitLine]
    keys: list[KeyQuota]


async def team_quotas(
    store: AccountStore, teams: Sequence[Team], keys: Sequence[Key]
) -> list[TeamQuota]:
    """Return the limits of each team, and of its keys that have any. Raises StoreUnavailable."""
    loaded = await store.load([team_account(team.name) for team in teams])
    keys_of: dict[str, list[Key]] = {}
    for key in keys:
        keys_of.setdefault(key.team, []).append(key)
    return [
        TeamQuota(
            team=team.name,
            limits=_report(account, team.limits, loaded.now),
            keys=_keys(account, keys_of.get(team.name, ()), loaded.now),
        )
        async for team, (account, _) in in_turns(zip(teams, loaded.accounts, strict=True))
    ]


async def gateway_quota(store: AccountStore, limits: Limits) -> list[LimitLine]:
    """Return the limits of all teams together. Raises StoreUnavailable."""
    loaded = await store.load([GATEWAY])
    return _report(loaded.accounts[0][0], limits, loaded.now)


def _keys(account: Account, keys: Sequence[Key], now: float) -> list[KeyQuota]:
    """The keys in use that have limits. Of a line of keys, this is the latest key."""
    lines = {key.line: key for key in sorted(keys, key=lambda key: key.created)}
    return [
        KeyQuota(
            key=key.id,
            line=line,
            name=key.name,
            limits=_report(account.of_key(line), key.limits, now),
        )
        for line, key in lines.items()
        if key.limits and key.state != "revoked"
    ]


def _report(account: Account, limits: Limits, now: float) -> list[LimitLine]:
    reports = []
    for state in limit_states(account, limits, now):
        shown = format_usd if state.kind.unit == "usd" else int
        reports.append(
            LimitLine(
                limit=state.name,
                size=shown(state.size),
                used=shown(state.used),
                held=shown(state.held),
                remaining=shown(state.remaining),
                resets_at=state.resets_at,
            )
        )
    return reports
