"""Steps of requests with a name: they give the name to one of them, and note what that one got.

The rules are in `gateway.quota.operations`. No step here touches an account: a purchase under a
name is reserved and settled like any other.
"""

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.quota import operations as rules
from gateway.quota.operations import NONE, Operation, Operations, Wish
from gateway.quota.step import NO_RECORDS, Accounts, Records, StepResult, record_change


class CachedAs(Struct, frozen=True):
    """Where an answer is in the cache, its mark, when it was bought, and its scope.

    The mark tells answers apart that were bought at about the same time.
    """

    answer: str
    mark: int
    dated: float
    scope: str


class Claim(Struct, frozen=True, kw_only=True):
    """Gives a name to the request with this new id, unless an operation holds it.

    The outcome is the operation that holds the name now. With an answer that is `cached`, the name
    is bound to that one. `lease` is the longest time of a purchase, in seconds.

    An operation that still runs is marked as promised if the wish is. One of this step's own is
    promised by its reservation, or by `Promise`: what is refused before needs no record. But it
    keeps the promise of one before it that failed, so that its client learns of this one's end.
    """

    id: str
    wish: Wish
    lease: float
    cached: CachedAs | None = None
    accounts: ClassVar[tuple[str, ...]] = ()

    @property
    def record(self) -> str:
        return self.wish.name

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[Operation]:
        before = records.get(self.record, NONE)
        held = rules.holder(before, self.wish, now)
        if held is not None and held.is_open and self._is_news(held):
            held = replace(held, promised=True, form=self.wish.form)
            return StepResult({}, held, records={self.record: Operations((held,))})
        if held is not None:
            return StepResult({}, held)
        operation = Operation(
            id=self.id,
            request=self.wish.request,
            gateway=self.wish.gateway,
            at=now,
            lease=now + self.lease,
            state="waiting",
            body=self.wish.body,
        )
        if (former := next(iter(before.all), None)) is not None:
            operation = replace(operation, promised=former.promised, form=former.form)
        if self.cached is not None:
            operation = _answered(operation, self.cached, now)
        return StepResult({}, operation, records={self.record: Operations((operation,))})

    def _is_news(self, held: Operation) -> bool:
        return self.wish.promised and held.body == self.wish.body and not held.promised

    def release(self, *, forget: bool = True) -> "Unanswered":
        """Return the step that gives the name up, unless it is bound to an answer."""
        return Unanswered(record=self.record, id=self.id)


class Promise(Struct, frozen=True, kw_only=True):
    """Notes that a client asks later for the operation with this id, in this form.

    The outcome is whether that is still open.
    """

    record: str
    id: str
    form: str
    accounts: ClassVar[tuple[str, ...]] = ()

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[bool]:
        known = records.get(self.record, NONE).get(self.id)
        if known is None or not known.is_open:
            return StepResult({}, False)
        after = Operations((replace(known, promised=True, form=self.form),))
        return StepResult({}, True, records={self.record: after})


class Answered(Struct, frozen=True, kw_only=True):
    """Notes where the answer of the operation with this id is kept: for its name from now on."""

    record: str
    id: str
    cached: CachedAs
    accounts: ClassVar[tuple[str, ...]] = ()

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[None]:
        before = records.get(self.record, NONE)
        known, after = before.get(self.id), before
        if known is not None and not known.answer:
            after = Operations((_answered(known, self.cached, now),))
        return StepResult({}, None, records=record_change(self.record, before, after))


class Unanswered(Struct, frozen=True, kw_only=True):
    """Ends the operation with this id if nothing was held for it.

    With `unknown`, the `failure` is that of the purchase that it has joined, whose outcome is
    unknown. Any other failure is definite.
    """

    record: str
    id: str
    failure: bytes = b""
    unknown: bool = False
    accounts: ClassVar[tuple[str, ...]] = ()

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[None]:
        before = records.get(self.record, NONE)
        known, after = before.get(self.id), before
        if known is not None and known.state == "waiting":
            if self.unknown:
                after = rules.unknown(before, known, now, self.failure)
            else:
                after = rules.failed(before, self.id, now, self.failure)
        return StepResult({}, None, records=record_change(self.record, before, after))


def _answered(operation: Operation, cached: CachedAs, now: float) -> Operation:
    return replace(
        operation,
        state="bought",
        ended=operation.ended or now,
        free=operation.state == "waiting",  # nothing was held for it
        answer=cached.answer,
        mark=cached.mark,
        dated=cached.dated,
        scope=cached.scope,
    )
