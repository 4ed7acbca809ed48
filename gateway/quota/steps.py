"""The one quota algorithm: pure steps `(accounts, now) -> (changed accounts, outcome, entries)`.

All limits of a request, those of its key, its team and the gateway, are checked in one step, so
a refusal consumes nothing. Every step is
idempotent by its reservation id: a store may apply it, lose the reply and be asked again.

A purchase is a *hold* between its reservation and its outcome. The hold counts at its ceiling,
so concurrent purchases cannot overspend together. Then one of these closes it:

- `Settle`: charged at what was delivered, or as unknown at the hold, because nobody can tell
  what the upstream drew;
- `Release`: charged nothing, because nothing was drawn;
- `Expire`: its lease ran out (its process died): charged as unknown, remembered for a day.

An outcome that arrives after the sweep replaces the unknown charge exactly once, in the
reservation's own period. An outcome for an id that is neither open nor swept has been applied
already and changes nothing, unless the store has lost the purchase: it came back with an older
state. Then what was bought is charged all the same, as if it were reserved and settled at once.
"""

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.model import NO_LIMITS, Entry, EntryOutcome, Limits
from gateway.quota.account import (
    EMPTY,
    GATEWAY,
    MEMORY_SECONDS,
    NOTHING,
    Account,
    Counters,
    Hold,
    team_account,
)
from gateway.quota.limits import Owner, Refusal, first_refusal
from gateway.quota.status import Standing, standing

Accounts = Mapping[str, Account]

T = TypeVar("T")
C = TypeVar("C", bound=Counters)

LOST_SECONDS = 2 * 86_400
"""How old a purchase that the store has lost may be. Stores tell for three days what they have
written, and a purchase that they have not lost must never be charged twice."""


class Applied(Struct, Generic[T], frozen=True):
    """A step's result: the accounts it changed, its outcome, and the usage entries it wrote."""

    changes: dict[str, Account]
    outcome: T
    entries: tuple[Entry, ...] = ()


class Step(Protocol[T]):
    """What the ledger can do to accounts."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of the accounts that `apply` wants to see."""

    def apply(self, accounts: Accounts, now: float) -> "Applied[T]":
        """The result at `now`; accounts without a state yet may be absent."""


class Held(Struct, frozen=True):
    """The purchase is admitted; `at` is the store's time of the reservation."""

    at: float
    standing: Standing


class Refused(Struct, frozen=True):
    """The purchase is not admitted, and has consumed nothing."""

    refusal: Refusal
    standing: Standing


class Reserve(Struct, frozen=True, kw_only=True):
    """Admit a purchase, or refuse it. `lease` in seconds, `cost` its ceiling in micro-dollars.

    `key` is the line of the key that asks: all keys of a line use up the same budgets.
    """

    id: str
    team: str
    key: str
    model: str
    size: str
    quality: str
    images: int
    cost: int
    lease: float
    limits: Limits
    gateway_limits: Limits
    key_limits: Limits = NO_LIMITS

    @property
    def accounts(self) -> tuple[str, ...]:
        own = team_account(self.team)
        return (own, GATEWAY) if self.gateway_limits else (own,)

    def apply(self, accounts: Accounts, now: float) -> Applied[Held | Refused]:
        own = team_account(self.team)
        team = accounts.get(own, EMPTY)
        # Asked again: it may even be swept by now, where the store's clock has jumped.
        if (known := team.holds.get(self.id) or team.swept.get(self.id)) is not None:
            return Applied({}, Held(known.at, self._standing(team, now)))
        owners: list[Owner] = [("team", self.team, team, self.limits)]
        if self.key_limits:
            owners.append(("key", self.key, team.of_key(self.key), self.key_limits))
        if self.gateway_limits:
            owners.append(("gateway", "", accounts.get(GATEWAY, EMPTY), self.gateway_limits))
        refusal = first_refusal(owners, self.images, self.cost, now)
        if refusal is not None:
            return Applied({}, Refused(refusal, self._standing(team, now)))
        changes = _holding(accounts, self.team, self.id, self.hold(now), now)
        return Applied(changes, Held(now, self._standing(changes[own], now)))

    def _standing(self, team: Account, now: float) -> Standing:
        owners = [(team, self.limits)]
        if self.key_limits:
            owners.append((team.of_key(self.key), self.key_limits))
        return standing(owners, now)

    def hold(self, at: float) -> Hold:
        """What the account holds for it, once it is admitted at that time."""
        return Hold(
            at=at,
            lease=at + self.lease,
            key=self.key,
            model=self.model,
            size=self.size,
            quality=self.quality,
            images=self.images,
            cost=self.cost,
            in_gateway=bool(self.gateway_limits),
            in_key=bool(self.key_limits),
        )

    def settle(self, at: float, images: int, cost: int, *, unknown: bool = False) -> "Settle":
        """Its outcome, once it was admitted at that time."""
        return Settle(
            id=self.id,
            team=self.team,
            images=images,
            cost=cost,
            unknown=unknown,
            hold=self.hold(at),
        )


class Settle(Struct, frozen=True, kw_only=True):
    """Charge what was delivered; with `unknown`, what may have been.

    `hold` is what was reserved. `lost` says that the store has neither the purchase nor an entry
    of it, though it was admitted: then it is charged anew.
    """

    id: str
    team: str
    images: int
    cost: int
    unknown: bool = False
    hold: Hold | None = None
    lost: bool = False

    @property
    def accounts(self) -> tuple[str, ...]:
        return (team_account(self.team), GATEWAY)

    def unknown_hold(self, accounts: Accounts, now: float) -> Hold | None:
        """What was reserved, where the account knows nothing of it: then this was applied already
        or the store has lost the purchase, and an entry of it tells.

        None also where that is too long ago to be told.
        """
        account = accounts.get(team_account(self.team), EMPTY)
        if self.id in account.holds or self.id in account.swept:
            return None
        recent = self.hold is not None and now <= self.hold.at + LOST_SECONDS
        return self.hold if recent else None

    def apply(self, accounts: Accounts, now: float) -> Applied[None]:
        outcome: EntryOutcome = "unknown" if self.unknown else "bought"
        if self.lost and (hold := self.unknown_hold(accounts, now)) is not None:
            accounts = {**accounts, **_holding(accounts, self.team, self.id, hold, now)}
        return _close(accounts, self.team, self.id, self.images, self.cost, outcome)


class Release(Struct, frozen=True, kw_only=True):
    """Charge nothing: the purchase failed, or was never made.

    `forget` leaves no usage entry, unless a sweep has written one: the reservation was given up
    on and nothing was asked of the upstream.
    """

    id: str
    team: str
    forget: bool = False

    @property
    def accounts(self) -> tuple[str, ...]:
        return (team_account(self.team), GATEWAY)

    def apply(self, accounts: Accounts, now: float) -> Applied[None]:
        applied = _close(accounts, self.team, self.id, 0, 0, "failed")
        if not self.forget:
            return applied
        # Always a new version, even with nothing to take back: a store that was frozen may still
        # run the old swap when it wakes, and must find that its version has passed.
        own = team_account(self.team)
        account = accounts.get(own, EMPTY)
        entries = applied.entries if self.id in account.swept else ()
        return Applied({own: account, **applied.changes}, None, entries)


class Expire(Struct, frozen=True):
    """Sweep an account's holds whose lease ran out. The outcome is how many there were."""

    account: str

    @property
    def accounts(self) -> tuple[str, ...]:
        return (self.account, GATEWAY)

    def apply(self, accounts: Accounts, now: float) -> Applied[int]:
        account = accounts.get(self.account, EMPTY)
        due = {id: hold for id, hold in account.holds.items() if hold.lease <= now}
        if not due:
            return Applied({}, 0)
        common = accounts.get(GATEWAY, EMPTY)
        team_name = self.account.removeprefix(team_account(""))
        for hold in due.values():
            account = _for_both(_charge, account, hold, hold.images, hold.cost)
            if hold.in_gateway:
                common = _charge(common, hold, hold.images, hold.cost)
        account = replace(
            account,
            holds={id: hold for id, hold in account.holds.items() if id not in due},
            swept={**_remembered(account.swept, now), **due},
        )
        entries = tuple(
            _entry(id, team_name, hold, hold.images, hold.cost, "unknown")
            for id, hold in due.items()
        )
        return Applied(
            _changed(accounts, {self.account: account, GATEWAY: common}), len(due), entries
        )


def _close(
    accounts: Accounts, team: str, id: str, images: int, cost: int, outcome: EntryOutcome
) -> Applied[None]:
    """Replace a hold, or the unknown charge it was swept to, by what it came to."""
    own = team_account(team)
    account, common = accounts.get(own, EMPTY), accounts.get(GATEWAY, EMPTY)
    if (hold := account.holds.get(id)) is not None:
        closing = _charge
        account = replace(account, holds=_without(account.holds, id))
    elif (hold := account.swept.get(id)) is not None:
        closing = _recharge
        account = replace(account, swept=_without(account.swept, id))
    else:
        return Applied({}, None)
    account = _for_both(closing, account, hold, images, cost)
    if hold.in_gateway:
        common = closing(common, hold, images, cost)
    entry = _entry(id, team, hold, images, cost, outcome)
    return Applied(_changed(accounts, {own: account, GATEWAY: common}), None, (entry,))


class _Closing(Protocol):
    """`_charge` or `_recharge`."""

    def __call__(self, counters: C, hold: Hold, images: int, cost: int) -> C: ...


def _for_both(closing: _Closing, account: Account, hold: Hold, images: int, cost: int) -> Account:
    """The account with a hold closed for its team, and for its key where that counts it too.

    A key whose counters are gone needs none: they were over, and the hold was of their time.
    """
    account = closing(account, hold, images, cost)
    counters = account.keys.get(hold.key)
    if not hold.in_key or counters is None:
        return account
    closed = closing(counters, hold, images, cost)
    return replace(account, keys={**account.keys, hold.key: closed})


def _holding(accounts: Accounts, team: str, id: str, hold: Hold, now: float) -> dict[str, Account]:
    """The accounts that a hold changes, with it."""
    own = team_account(team)
    account = accounts.get(own, EMPTY)
    keys = account.keys
    if hold.in_key:
        keys = {**keys, hold.key: _counted(keys.get(hold.key, NOTHING), hold, now)}
    changes = {
        own: replace(
            _counted(account, hold, now),
            holds={**account.holds, id: hold},
            swept=_remembered(account.swept, now),
            # Quiet keys must not pile up.
            keys={line: counters for line, counters in keys.items() if not counters.is_over(now)},
        )
    }
    if hold.in_gateway:
        changes[GATEWAY] = _hold(accounts.get(GATEWAY, EMPTY), hold)
    return changes


def _counted(counters: C, hold: Hold, now: float) -> C:
    """The counters with a hold, and with its second among those of the last minute."""
    held = replace(_hold(counters, hold), minute=_with_second(counters.minute, int(hold.at)))
    return replace(held, minute=held.minute_at(now))


def _hold(counters: C, hold: Hold) -> C:
    day, month = hold.day, hold.month
    return replace(
        counters,
        day=counters.day.roll(day).hold(day, hold.images, hold.cost),
        month=counters.month.roll(month).hold(month, hold.images, hold.cost),
    )


def _charge(counters: C, hold: Hold, images: int, cost: int) -> C:
    """The counters with a hold turned into a charge, in the periods of its reservation."""
    day, month = hold.day, hold.month
    return replace(
        counters,
        day=counters.day.hold(day, -hold.images, -hold.cost).spend(day, images, cost),
        month=counters.month.hold(month, -hold.images, -hold.cost).spend(month, images, cost),
    )


def _recharge(counters: C, hold: Hold, images: int, cost: int) -> C:
    """The counters with a swept hold's unknown charge turned into the real one."""
    images, cost = images - hold.images, cost - hold.cost
    return replace(
        counters,
        day=counters.day.spend(hold.day, images, cost),
        month=counters.month.spend(hold.month, images, cost),
    )


def _with_second(minute: tuple[tuple[int, int], ...], second: int) -> tuple[tuple[int, int], ...]:
    if minute and minute[-1][0] > second:  # only where the store had lost it
        counts = dict(minute)
        return tuple(sorted({**counts, second: counts.get(second, 0) + 1}.items()))
    if minute and minute[-1][0] == second:
        return (*minute[:-1], (second, minute[-1][1] + 1))
    return (*minute, (second, 1))


def _remembered(swept: dict[str, Hold], now: float) -> dict[str, Hold]:
    return {id: hold for id, hold in swept.items() if hold.lease + MEMORY_SECONDS > now}


def _without(holds: dict[str, Hold], id: str) -> dict[str, Hold]:
    left = holds.copy()  # several times quicker than filtering, and there may be thousands
    del left[id]
    return left


def _changed(before: Accounts, after: dict[str, Account]) -> dict[str, Account]:
    return {
        name: account for name, account in after.items() if account is not before.get(name, EMPTY)
    }


def _entry(id: str, team: str, hold: Hold, images: int, cost: int, outcome: EntryOutcome) -> Entry:
    return Entry(
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
