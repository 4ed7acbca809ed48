"""Holds of purchases in accounts: added, closed, and remembered after a sweep.

A hold counts for its team, for its key if the key has limits, and for the gateway if that has.
"""

from typing import Protocol

from msgspec.structs import asdict, replace

from gateway.core.model import Entry, EntryOutcome
from gateway.quota.account import (
    EMPTY,
    GATEWAY,
    MEMORY_SECONDS,
    NOTHING,
    Account,
    C,
    Hold,
    add_hold,
    charge_hold,
    count_hold,
    recharge_hold,
    team_account,
)
from gateway.quota.purchase import KeptEntry, purchase_of
from gateway.quota.step import Accounts


def close_hold(
    accounts: Accounts, team: str, id: str, images: int, cost: int, outcome: EntryOutcome
) -> tuple[dict[str, Account], tuple[Entry, ...]]:
    """Replace a hold, or the unknown charge of a swept hold, with the outcome."""
    own = team_account(team)
    account, common = accounts.get(own, EMPTY), accounts.get(GATEWAY, EMPTY)
    if (hold := account.holds.get(id)) is not None:
        closing = charge_hold
        account = replace(account, holds=_without(account.holds, id))
    elif (hold := account.swept.get(id)) is not None:
        if outcome == "unknown":  # the sweep has charged that, or a person has refunded it since
            return {}, ()
        closing = recharge_hold
        account = replace(account, swept=_without(account.swept, id))
    else:
        return {}, ()
    account = for_both(closing, account, hold, images, cost)
    if hold.in_gateway:
        common = closing(common, hold, images, cost)
    entry = usage_entry(id, team, hold, images, cost, outcome)
    return changed(accounts, {own: account, GATEWAY: common}), (entry,)


class _Closing(Protocol):
    """`charge_hold` or `recharge_hold`."""

    def __call__(self, counters: C, hold: Hold, images: int, cost: int) -> C: ...


def for_both(closing: _Closing, account: Account, hold: Hold, images: int, cost: int) -> Account:
    """Close a hold for its team, and for its key if the key counts it too.

    A key may have no counters any more. They were dropped because their periods had ended, and
    the hold belongs to those periods.
    """
    account = closing(account, hold, images, cost)
    counters = account.keys.get(hold.key)
    if not hold.in_key or counters is None:
        return account
    closed = closing(counters, hold, images, cost)
    return replace(account, keys={**account.keys, hold.key: closed})


def add_purchase(
    accounts: Accounts, team: str, id: str, hold: Hold, now: float
) -> dict[str, Account]:
    """Return the accounts that a hold changes, with the hold in them."""
    own = team_account(team)
    account = accounts.get(own, EMPTY)
    keys = account.keys
    if hold.in_key:
        keys = {**keys, hold.key: count_hold(keys.get(hold.key, NOTHING), hold, now)}
    changes = {
        own: replace(
            count_hold(account, hold, now),
            holds={**account.holds, id: hold},
            swept=remembered(account.swept, now),
            # Unused keys must not pile up.
            keys={line: counters for line, counters in keys.items() if not counters.is_over(now)},
        )
    }
    if hold.in_gateway:
        changes[GATEWAY] = add_hold(accounts.get(GATEWAY, EMPTY), hold)
    return changes


def remembered(swept: dict[str, Hold], now: float) -> dict[str, Hold]:
    return {id: hold for id, hold in swept.items() if hold.lease + MEMORY_SECONDS > now}


def _without(holds: dict[str, Hold], id: str) -> dict[str, Hold]:
    left = holds.copy()  # several times faster than filtering, and there may be thousands
    del left[id]
    return left


def changed(before: Accounts, after: dict[str, Account]) -> dict[str, Account]:
    """Return the accounts that a step has changed."""
    # Writing an account that did not change would only make the swaps of other processes fail.
    return {
        name: account for name, account in after.items() if account is not before.get(name, EMPTY)
    }


def usage_entry(
    id: str, team: str, hold: Hold, images: int, cost: int, outcome: EntryOutcome
) -> Entry:
    """Return the usage entry of a hold that is closed, or swept, with this outcome."""
    entry = Entry(
        id=id,
        at=hold.at,
        team=team,
        key=hold.key,
        model=hold.model,
        size=hold.size,
        quality=hold.quality,
        outcome=outcome,
        images_bought=images,
        images_unknown=images if outcome == "unknown" else 0,
        cost=cost,
    )
    if outcome != "unknown":
        return entry
    purchase = purchase_of(id, team, replace(hold, images=images, cost=cost), "unknown")
    return KeptEntry(**asdict(entry), purchase=purchase)
