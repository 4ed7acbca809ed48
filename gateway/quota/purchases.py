"""Operations on single purchases, the same for the command line and the admin API.

They print nothing. An operation that cannot be done raises OperationError.
"""

import asyncio
import random
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.errors import StoreUnavailable
from gateway.core.key_format import public_id
from gateway.core.model import AuditEntry, EntryOutcome
from gateway.core.money import format_usd
from gateway.core.periods import utc
from gateway.core.tasks import in_turns
from gateway.quota.account import team_account
from gateway.quota.purchase import (
    Place,
    Purchase,
    PurchaseFilter,
    PurchaseState,
    Refunded,
    purchase_of,
)
from gateway.quota.refund import Refund
from gateway.quota.store import AccountStore, Change, PurchaseStore
from gateway.tenants.changes import Actor, OperationError, UnknownName
from gateway.tenants.operations import check_team
from gateway.tenants.store import DirectoryStore

PATIENCE_SECONDS = 5.0
"""How long a refund is tried again, because others write the account or the store is away."""

PAUSE_SECONDS = 0.02
"""The longest pause between two attempts. Gateways may write the account all the time."""

_OPEN = (
    "This purchase is open: it is still running, or waits to be charged as unknown. Only unknown "
    "charges can be refunded."
)
_SETTLED: dict[EntryOutcome, str] = {
    "bought": "was bought: its images were delivered and charged",
    "failed": "failed, and nothing was charged",
}


class PurchaseStores(Struct, frozen=True):
    """The parts of a store that have purchases."""

    accounts: AccountStore
    directory: DirectoryStore
    purchases: PurchaseStore


# -- looking into them --------------------------------------------------------------------------


async def list_purchases(
    stores: PurchaseStores,
    wanted: PurchaseFilter,
    state: PurchaseState | None,
    limit: int,
    before: Place | None = None,
) -> list[Purchase]:
    """Return up to `limit` of the wanted purchases, in this state or any, the latest first.

    With `before` they come before that place. Raises UnknownName, StoreUnavailable.
    """
    await check_team(stores.directory, wanted.team)
    found: list[Purchase] = []
    if state in (None, "open"):
        found += [
            purchase
            for purchase in await _open(stores, wanted.team)
            if wanted.matches(purchase) and (before is None or purchase.place < before)
        ]
    if state != "open":
        found += await stores.purchases.page(wanted, state, limit, before)
    return sorted(found, key=lambda purchase: purchase.place, reverse=True)[:limit]


async def find_purchase(stores: PurchaseStores, id: str) -> Purchase:
    """Return the purchase with this id, or with this id of its request.

    Raises OperationError if it is bought or failed, if it is unknown, or if several have the same
    id of a request. Raises StoreUnavailable.
    """
    if (kept := await stores.purchases.find(id)) is not None:
        return kept
    found = await list_purchases(stores, PurchaseFilter(id=id), None, 2)
    if len(found) > 1:
        ids = ", ".join(purchase.id for purchase in found)
        raise OperationError(f"Several purchases have this request id. Name one by its own: {ids}.")
    if found:
        return found[0]
    outcome = await stores.purchases.outcome(id)
    if outcome in _SETTLED:
        raise OperationError(f"This purchase {_SETTLED[outcome]}.")
    raise UnknownName(
        "No open or unknown purchase has this id. 'gateway purchases list' shows them."
    )


async def _open(stores: PurchaseStores, team: str | None) -> list[Purchase]:
    """Return the open purchases of a team, or of all."""
    if team is None:
        names = [each.name for each in (await stores.directory.changes(0)).teams]
    else:
        names = [team]
    loaded = await stores.accounts.load([team_account(name) for name in names])
    return [
        purchase_of(id, name, hold, "open")
        async for name, (account, _) in in_turns(zip(names, loaded.accounts, strict=True))
        for id, hold in account.holds.items()
    ]


# -- refunds ------------------------------------------------------------------------------------


class AlreadyRefunded(OperationError):
    """The purchase was refunded before."""

    def __init__(self, former: Refunded) -> None:
        at = utc(former.at)
        super().__init__(f"This purchase was already refunded by {former.who} at {at}.")


async def refund_purchase(
    stores: PurchaseStores,
    id: str,
    why: str,
    by: Actor,
    patience: float = PATIENCE_SECONDS,
    spread: Callable[[], float] = random.random,
) -> Purchase:
    """Refund an unknown purchase and return it. `id` is as in `find_purchase`.

    Of several refunds at once, on whatever gateways, one wins: the store writes a refund only if
    account and record are still what it was decided on, and a loser is decided again.

    If a reply gets lost, the record shows whether the refund was written. If it was, the account is
    written once more: only a swap that the store acknowledges proves that its replicas have it.

    Raises OperationError if the purchase is not an unknown one, and StoreUnavailable: then it may
    have been refunded, and a repetition says so.
    """
    refunded = Refunded(at=by.now, who=by.who, why=why)
    clock = asyncio.get_running_loop().time
    deadline, unsure = clock() + patience, False
    while True:
        try:
            purchase = await find_purchase(stores, id)
            id = purchase.id
            written = unsure and purchase.refunded == refunded
            if purchase.state == "open":
                raise OperationError(_OPEN)
            if purchase.refunded is not None and not written:
                raise AlreadyRefunded(purchase.refunded)
            step = Refund(purchase=purchase, refunded=refunded)
            if await _write(stores.accounts, step, by, again=written):
                return replace(purchase, state="refunded", refunded=refunded)
        except StoreUnavailable:
            unsure = True
            if clock() > deadline:
                raise
        if clock() > deadline:
            raise StoreUnavailable
        await asyncio.sleep(spread() * PAUSE_SECONDS)


async def _write(accounts: AccountStore, step: Refund, by: Actor, *, again: bool) -> bool:
    """Decide the step and write it once, or with `again` only its accounts as they are.

    Returns False if an account or the record has changed meanwhile.
    """
    loaded = await accounts.load(step.accounts)
    before = dict(zip(step.accounts, (account for account, _ in loaded.accounts), strict=True))
    applied = step.apply(before, loaded.now)
    after = before if again else applied.changes
    changes = [
        Change(name, version, after[name])
        for name, (_, version) in zip(step.accounts, loaded.accounts, strict=True)
    ]
    if again:
        return await accounts.swap(changes, ())
    return await accounts.swap(changes, applied.entries, audit=(_audit_entry(step, by),))


def _audit_entry(step: Refund, by: Actor) -> AuditEntry:
    purchase = step.purchase
    return by.entry(
        "purchase.refund",
        team=purchase.team,
        key=public_id(purchase.key),
        before={"state": "unknown", "cost_usd": format_usd(purchase.cost)},
        after={
            "purchase": purchase.id,
            "state": "refunded",
            "cost_usd": "0",
            "why": step.refunded.why,
        },
    )
