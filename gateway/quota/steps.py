"""The one quota algorithm: pure steps `(accounts, now) -> (changed accounts, outcome, entries)`.

One step checks all limits of a request, those of its key, its team and the gateway, so a refusal
consumes nothing. Every step is idempotent by its reservation id: a store may apply a step, lose
the reply and be asked again.

Between its reservation and its outcome a purchase is a *hold*. The hold counts at the ceiling of
the price, so concurrent purchases cannot overspend together. One of these steps closes it:

- `Settle` charges the images delivered. If their delivery could not be confirmed, it charges the
  whole hold as unknown.
- `Release` charges nothing, because the upstream generated nothing.
- `Expire` sweeps a hold whose lease ran out, because its process died. It charges the hold as
  unknown and remembers it for a day.

An outcome that arrives after the sweep replaces the unknown charge exactly once, in the periods
of the reservation. An outcome whose id is neither open nor swept was applied before and changes
nothing. The exception is a store that came back with an older state and lost the purchase: then
the images are charged as if the purchase were reserved and settled at once.
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
    C,
    Hold,
    add_hold,
    charge_hold,
    count_hold,
    recharge_hold,
    team_account,
)
from gateway.quota.limits import RateLimitStatus, rate_limit_status
from gateway.quota.refusal import LimitOwner, Refusal, first_refusal

Accounts = Mapping[str, Account]

T = TypeVar("T")

LOST_SECONDS = 2 * 86_400
"""The greatest age of a purchase that is treated as lost. Stores know for three days which entries
they wrote, and a purchase that is not lost must never be charged twice."""


class StepResult(Struct, Generic[T], frozen=True):
    """A step's result: the accounts it changed, its outcome, and the usage entries it wrote."""

    changes: dict[str, Account]
    outcome: T
    entries: tuple[Entry, ...] = ()


class Step(Protocol[T]):
    """A change of accounts."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of the accounts that `apply` reads."""

    def apply(self, accounts: Accounts, now: float) -> "StepResult[T]":
        """Return the result at `now`. Accounts that were never written may be absent."""


class Held(Struct, frozen=True):
    """The purchase is admitted. `at` is the time of the reservation by the store's clock."""

    at: float
    rate_limits: RateLimitStatus


class Denied(Struct, frozen=True):
    """The purchase is refused, and has consumed nothing."""

    refusal: Refusal
    rate_limits: RateLimitStatus


class Reserve(Struct, frozen=True, kw_only=True):
    """Admits or refuses a purchase. `lease` is in seconds, `cost` is the ceiling in micro-dollars.

    `key` is the line of the key: all keys of a line share their budgets.
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

    def apply(self, accounts: Accounts, now: float) -> StepResult[Held | Denied]:
        own = team_account(self.team)
        team = accounts.get(own, EMPTY)
        # A repeated reservation. Its hold may even be swept, if the store's clock has jumped.
        if (known := team.holds.get(self.id) or team.swept.get(self.id)) is not None:
            return StepResult({}, Held(known.at, self._rate_limits(team, now)))
        owners = [LimitOwner("team", self.team, team, self.limits)]
        if self.key_limits:
            owners.append(LimitOwner("key", self.key, team.of_key(self.key), self.key_limits))
        if self.gateway_limits:
            common = accounts.get(GATEWAY, EMPTY)
            owners.append(LimitOwner("gateway", "", common, self.gateway_limits))
        refusal = first_refusal(owners, self.images, self.cost, now)
        if refusal is not None:
            return StepResult({}, Denied(refusal, self._rate_limits(team, now)))
        changes = _holding(accounts, self.team, self.id, self.hold(now), now)
        return StepResult(changes, Held(now, self._rate_limits(changes[own], now)))

    def _rate_limits(self, team: Account, now: float) -> RateLimitStatus:
        owners = [(team, self.limits)]
        if self.key_limits:
            owners.append((team.of_key(self.key), self.key_limits))
        return rate_limit_status(owners, now)

    def hold(self, at: float) -> Hold:
        """Return the hold of this purchase, if it was admitted at that time."""
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
        """Return the outcome of this purchase, if it was admitted at that time."""
        return Settle(
            id=self.id,
            team=self.team,
            images=images,
            cost=cost,
            unknown=unknown,
            hold=self.hold(at),
        )


class Settle(Struct, frozen=True, kw_only=True):
    """Charges the images that were delivered, or with `unknown` those that may have been.

    `hold` is the hold of the reservation. `lost` means that the store has neither the purchase nor
    its entry, though it was admitted. Then the purchase is charged again.
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
        """Return the hold if the account does not know the purchase, or None.

        Then either this step was applied before, or the store has lost the purchase. The usage
        entry shows which. Returns None also if the store no longer knows the entries of that time.
        """
        account = accounts.get(team_account(self.team), EMPTY)
        if self.id in account.holds or self.id in account.swept:
            return None
        recent = self.hold is not None and now <= self.hold.at + LOST_SECONDS
        return self.hold if recent else None

    def apply(self, accounts: Accounts, now: float) -> StepResult[None]:
        outcome: EntryOutcome = "unknown" if self.unknown else "bought"
        if self.lost and (hold := self.unknown_hold(accounts, now)) is not None:
            accounts = {**accounts, **_holding(accounts, self.team, self.id, hold, now)}
        return _close(accounts, self.team, self.id, self.images, self.cost, outcome)


class Release(Struct, frozen=True, kw_only=True):
    """Charges nothing: the purchase failed, or was never made.

    With `forget` the reservation was given up before anything was sent to the upstream. Then there
    is no usage entry, unless a sweep has written one.
    """

    id: str
    team: str
    forget: bool = False

    @property
    def accounts(self) -> tuple[str, ...]:
        return (team_account(self.team), GATEWAY)

    def apply(self, accounts: Accounts, now: float) -> StepResult[None]:
        applied = _close(accounts, self.team, self.id, 0, 0, "failed")
        if not self.forget:
            return applied
        # This always raises the version, even with nothing to take back. A frozen store may still
        # run the old swap when it wakes, and that swap must then fail.
        own = team_account(self.team)
        account = accounts.get(own, EMPTY)
        entries = applied.entries if self.id in account.swept else ()
        return StepResult({own: account, **applied.changes}, None, entries)


class Expire(Struct, frozen=True):
    """Sweeps the holds of an account whose lease ran out. The outcome is their number."""

    account: str

    @property
    def accounts(self) -> tuple[str, ...]:
        return (self.account, GATEWAY)

    def apply(self, accounts: Accounts, now: float) -> StepResult[int]:
        account = accounts.get(self.account, EMPTY)
        due = {id: hold for id, hold in account.holds.items() if hold.lease <= now}
        if not due:
            return StepResult({}, 0)
        common = accounts.get(GATEWAY, EMPTY)
        team_name = self.account.removeprefix(team_account(""))
        for hold in due.values():
            account = _for_both(charge_hold, account, hold, hold.images, hold.cost)
            if hold.in_gateway:
                common = charge_hold(common, hold, hold.images, hold.cost)
        account = replace(
            account,
            holds={id: hold for id, hold in account.holds.items() if id not in due},
            swept={**_remembered(account.swept, now), **due},
        )
        entries = tuple(
            _entry(id, team_name, hold, hold.images, hold.cost, "unknown")
            for id, hold in due.items()
        )
        return StepResult(
            _changed(accounts, {self.account: account, GATEWAY: common}), len(due), entries
        )


def _close(
    accounts: Accounts, team: str, id: str, images: int, cost: int, outcome: EntryOutcome
) -> StepResult[None]:
    """Replace a hold, or the unknown charge of a swept hold, with the outcome."""
    own = team_account(team)
    account, common = accounts.get(own, EMPTY), accounts.get(GATEWAY, EMPTY)
    if (hold := account.holds.get(id)) is not None:
        closing = charge_hold
        account = replace(account, holds=_without(account.holds, id))
    elif (hold := account.swept.get(id)) is not None:
        closing = recharge_hold
        account = replace(account, swept=_without(account.swept, id))
    else:
        return StepResult({}, None)
    account = _for_both(closing, account, hold, images, cost)
    if hold.in_gateway:
        common = closing(common, hold, images, cost)
    entry = _entry(id, team, hold, images, cost, outcome)
    return StepResult(_changed(accounts, {own: account, GATEWAY: common}), None, (entry,))


class _Closing(Protocol):
    """`charge_hold` or `recharge_hold`."""

    def __call__(self, counters: C, hold: Hold, images: int, cost: int) -> C: ...


def _for_both(closing: _Closing, account: Account, hold: Hold, images: int, cost: int) -> Account:
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


def _holding(accounts: Accounts, team: str, id: str, hold: Hold, now: float) -> dict[str, Account]:
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
            swept=_remembered(account.swept, now),
            # Unused keys must not pile up.
            keys={line: counters for line, counters in keys.items() if not counters.is_over(now)},
        )
    }
    if hold.in_gateway:
        changes[GATEWAY] = add_hold(accounts.get(GATEWAY, EMPTY), hold)
    return changes


def _remembered(swept: dict[str, Hold], now: float) -> dict[str, Hold]:
    return {id: hold for id, hold in swept.items() if hold.lease + MEMORY_SECONDS > now}


def _without(holds: dict[str, Hold], id: str) -> dict[str, Hold]:
    left = holds.copy()  # several times faster than filtering, and there may be thousands
    del left[id]
    return left


def _changed(before: Accounts, after: dict[str, Account]) -> dict[str, Account]:
    # Writing an account that did not change would only make the swaps of other processes fail.
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
