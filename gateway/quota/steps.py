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

A person may take an unknown charge back: see `gateway.quota.refund`.
"""

from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.model import NO_LIMITS, EntryOutcome, Limits
from gateway.quota import operations as rules
from gateway.quota.account import EMPTY, GATEWAY, Account, Hold, charge_hold, team_account
from gateway.quota.holds import (
    add_purchase,
    changed,
    close_hold,
    for_both,
    remembered,
    usage_entry,
)
from gateway.quota.limits import RateLimitStatus, rate_limit_status
from gateway.quota.operations import NONE, Found, Operation, Repeat, Wish
from gateway.quota.refusal import LimitOwner, Refusal, first_refusal
from gateway.quota.step import NO_RECORDS, Accounts, Records, StepResult, record_change

LOST_SECONDS = 2 * 86_400
"""The greatest age of a purchase that is treated as lost. Stores know for three days which entries
they wrote, and a purchase that is not lost must never be charged twice."""


class Held(Struct, frozen=True):
    """The purchase is admitted. `at` is the time of the reservation by the store's clock."""

    at: float
    rate_limits: RateLimitStatus


class Denied(Struct, frozen=True):
    """The purchase is refused, and has consumed nothing."""

    refusal: Refusal
    rate_limits: RateLimitStatus


class Taken(Struct, frozen=True):
    """There is an operation that the request takes over, or repeats. Nothing is bought."""

    found: Found | Repeat
    rate_limits: RateLimitStatus


class Reserve(Struct, frozen=True, kw_only=True):
    """Admits or refuses a purchase. `lease` is in seconds, `cost` is the ceiling in micro-dollars.

    `key` is the line of the key: all keys of a line share their budgets. `request` is as in `Hold`.
    Without a `wish` no operation is looked for.
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
    wish: Wish | None = None
    request: str | None = None

    @property
    def accounts(self) -> tuple[str, ...]:
        own = team_account(self.team)
        return (own, GATEWAY) if self.gateway_limits else (own,)

    @property
    def record(self) -> str:
        return "" if self.wish is None else self.wish.name

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[Held | Denied | Taken]:
        own = team_account(self.team)
        team = accounts.get(own, EMPTY)
        # A repeated reservation. Its hold may even be swept, if the store's clock has jumped.
        if (known := team.holds.get(self.id) or team.swept.get(self.id)) is not None:
            return StepResult({}, Held(known.at, self._rate_limits(team, now)))
        before = records.get(self.record, NONE)
        if self.wish and (found := rules.find(before, self.wish, self.id, now)):
            taken = Taken(found, self._rate_limits(team, now))
            if isinstance(found, Repeat):
                return StepResult({}, taken)
            after = rules.claimed(before, found.operation, self.wish, self.id, now)
            return StepResult({}, taken, records={self.record: after})
        owners = [LimitOwner("team", self.team, team, self.limits)]
        if self.key_limits:
            owners.append(LimitOwner("key", self.key, team.of_key(self.key), self.key_limits))
        if self.gateway_limits:
            common = accounts.get(GATEWAY, EMPTY)
            owners.append(LimitOwner("gateway", "", common, self.gateway_limits))
        refusal = first_refusal(owners, self.images, self.cost, now)
        if refusal is not None:
            return StepResult({}, Denied(refusal, self._rate_limits(team, now)))
        hold = self.hold(now)
        changes = add_purchase(accounts, self.team, self.id, hold, now)
        held = Held(now, self._rate_limits(changes[own], now))
        if self.wish is None:
            return StepResult(changes, held)
        after = rules.begun(before, self.wish, self.id, now, hold.lease)
        return StepResult(changes, held, records={self.record: after})

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
            request=self.request,
        )

    def operation(self, at: float) -> Operation | None:
        """Return the operation of this purchase, if it was admitted at that time."""
        if self.wish is None:
            return None
        (operation,) = rules.begun(NONE, self.wish, self.id, at, at + self.lease).all
        return operation

    def release(self, *, forget: bool = False, failure: bytes = b"") -> "Release":
        """Return the end of this purchase without a charge."""
        return Release(
            id=self.id, team=self.team, forget=forget, record=self.record, failure=failure
        )

    def settle(self, at: float, images: int, cost: int, **outcome: Any) -> "Settle":
        """Return the outcome of this purchase, if it was admitted at that time.

        `outcome` has further fields of it.
        """
        return Settle(
            id=self.id,
            team=self.team,
            images=images,
            cost=cost,
            hold=self.hold(at),
            record=self.record,
            operation=self.operation(at),
            **outcome,
        )


class Settle(Struct, frozen=True, kw_only=True):
    """Charges the images that were delivered, or with `unknown` those that may have been.

    `hold` is the hold of the reservation. `lost` means that the store has neither the purchase nor
    its entry, though it was admitted. Then the purchase is charged again.

    The outcome is the purchase's operation, if that stays in the record: without an answer with its
    `failure`, otherwise for a client that takes it over. It does not stay where the answer is
    `cached` for all gateways.
    """

    id: str
    team: str
    images: int
    cost: int
    unknown: bool = False
    hold: Hold | None = None
    lost: bool = False
    record: str = ""
    operation: Operation | None = None
    cached: bool = False
    failure: bytes = b""

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

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[Operation | None]:
        outcome: EntryOutcome = "unknown" if self.unknown else "bought"
        if self.lost and (hold := self.unknown_hold(accounts, now)) is not None:
            accounts = {**accounts, **add_purchase(accounts, self.team, self.id, hold, now)}
        changes, entries = close_hold(accounts, self.team, self.id, self.images, self.cost, outcome)
        if self.operation is None:
            return StepResult(changes, None, entries)
        before = records.get(self.record, NONE)
        if self.unknown:
            after = rules.unknown(before, self.operation, now, self.failure)
        else:
            after = rules.bought(before, self.operation, now, cached=self.cached)
        change = record_change(self.record, before, after)
        return StepResult(changes, after.get(self.id), entries, change)


class Release(Struct, frozen=True, kw_only=True):
    """Charges nothing: the purchase failed, or was never made.

    With `forget` the reservation was given up before anything was sent to the upstream. Then there
    is no usage entry, unless a sweep has written one. The `failure` is for a client that asks for
    it later.
    """

    id: str
    team: str
    forget: bool = False
    record: str = ""
    failure: bytes = b""

    @property
    def accounts(self) -> tuple[str, ...]:
        return (team_account(self.team), GATEWAY)

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[None]:
        changes, entries = close_hold(accounts, self.team, self.id, 0, 0, "failed")
        before = records.get(self.record, NONE)
        after = rules.failed(before, self.id, now, self.failure)
        change = record_change(self.record, before, after)
        if self.forget and self.id not in accounts.get(team_account(self.team), EMPTY).swept:
            entries = ()
        return StepResult(changes, None, entries, change)


class Expire(Struct, frozen=True):
    """Sweeps the holds of an account whose lease ran out. The outcome is their number."""

    account: str
    record: ClassVar[str] = ""

    @property
    def accounts(self) -> tuple[str, ...]:
        return (self.account, GATEWAY)

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[int]:
        account = accounts.get(self.account, EMPTY)
        due = {id: hold for id, hold in account.holds.items() if hold.lease <= now}
        if not due:
            return StepResult({}, 0)
        common = accounts.get(GATEWAY, EMPTY)
        team_name = self.account.removeprefix(team_account(""))
        for hold in due.values():
            account = for_both(charge_hold, account, hold, hold.images, hold.cost)
            if hold.in_gateway:
                common = charge_hold(common, hold, hold.images, hold.cost)
        account = replace(
            account,
            holds={id: hold for id, hold in account.holds.items() if id not in due},
            swept={**remembered(account.swept, now), **due},
        )
        entries = tuple(
            usage_entry(id, team_name, hold, hold.images, hold.cost, "unknown")
            for id, hold in due.items()
        )
        return StepResult(
            changed(accounts, {self.account: account, GATEWAY: common}), len(due), entries
        )


class Leave(Struct, frozen=True, kw_only=True):
    """Notes that the client of the request with this reservation id has left.

    `whole` is the operation that it has bought, if it has.
    """

    record: str
    id: str
    whole: Operation | None = None
    accounts: ClassVar[tuple[str, ...]] = ()

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[None]:
        before = records.get(self.record, NONE)
        after = rules.left(before, self.id, self.whole)
        return StepResult({}, None, records=record_change(self.record, before, after))


class Deliver(Struct, frozen=True, kw_only=True):
    """Removes the operation that this request has claimed: its client got the answer."""

    record: str
    id: str
    accounts: ClassVar[tuple[str, ...]] = ()

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[None]:
        before = records.get(self.record, NONE)
        after = rules.delivered(before, self.id)
        return StepResult({}, None, records=record_change(self.record, before, after))
