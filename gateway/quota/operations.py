"""Operations: what is known of each wish to buy, so that no wish is bought twice.

An *operation* is one purchase: running, bought, or of unknown outcome. A store keeps those of equal
requests of one key line in one record, `Operations`, and writes it in the same swap as the
account. A purchase that failed for certain has no operation any more, and neither has one whose
answer its client got.

`find` decides what becomes of a request before it is bought:

1. *A retry of an official SDK* takes over the oldest operation whose client left, else the oldest
   that is running: a proxy in between may hide that its client left.
2. *Any other request* takes over the oldest operation whose client left. A request for a new image
   (`no-cache`, `no-store`) only takes over one that asked for a new image too.
3. *A repeat*, that is a request that began after an equal one had ended without a clear outcome, is
   refused for a while: its image may have been generated, and is charged.
4. Everything else is bought.

Only one request takes over an operation. It gives the operation back if its client leaves, too. An
operation whose own client still waits is then for other retries alone: nobody else gets the image
of a client that waits. Retries of one client may follow each other unseen, so a retry also takes
over what another retry has.
An operation whose gateway stopped renewing its lease is unknown from the lease's end on.

A request with a name (an `Idempotency-Key`) has a record of its own, with at most one operation and
a digest of the body. All requests of its name get what that operation got, for `NAMED_SECONDS`. The
name is *waiting* before anything is held for it: the answer may come from the purchase of an equal
request. Only a name that is running when its gateway dies becomes unknown.
"""

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.bounds import MOST_HOLD_SECONDS

LEASE_SECONDS = 5.0
"""How long a gateway counts as alive after it last said so, and an operation as running."""

KEEP_SECONDS = 600.0
"""How long an answer waits for the retry of a client that left."""

NAMED_SECONDS = 86_400.0
"""How long the answer under a name lasts, and likewise an unknown outcome."""

GONE = "gone"
"""The name of an answer that was not kept."""

MOST_BOUGHT = 100
"""Bought operations of equal requests that are kept. The oldest leave first."""


class Operation(Struct, frozen=True, array_like=True, kw_only=True):
    """One wish to buy.

    `id` is the reservation's id, `request` the request id, `gateway` the process that buys and has
    the answer. It was reserved `at`, and its hold is swept after `lease`. `fresh` means that the
    client asked for a new image. `ended` is when it was bought or became unknown. `left` means
    that its own client has left. `claim` is the id of the request that takes it over, in the
    process `claimant`, since `claimed`. `retried` means that a retry took it over last. `failure`
    is the encoded error of an unknown outcome.

    An operation under a name has the `body`'s digest. Its answer is in the cache under the name
    `answer`, "" before it is kept, and has this `mark`. It was bought at the time `dated`, and is
    the team's while its answers have this `scope`: a purge ends it. `free` means that the answer
    was not bought for it. `promised` means that a client asks later for what it got, in this
    `form`: then a definite `failure` is kept, too.
    """

    id: str
    request: str
    gateway: str
    at: float
    lease: float
    fresh: bool = False
    state: Literal["waiting", "running", "bought", "unknown", "failed"] = "running"
    ended: float = 0.0
    left: bool = False
    claim: str = ""
    claimant: str = ""
    claimed: float = 0.0
    failure: bytes = b""
    retried: bool = False
    body: str = ""
    answer: str = ""
    mark: int = 0
    dated: float = 0.0
    scope: str = ""
    promised: bool = False
    form: str = ""
    free: bool = False

    @property
    def is_open(self) -> bool:
        """Whether requests of its name have to wait for its answer."""
        return self.state in ("waiting", "running") or (self.state == "bought" and not self.answer)

    @property
    def ends(self) -> float:
        """When it is forgotten."""
        if self.body:
            return (self.ended or self.lease) + NAMED_SECONDS
        match self.state:
            case "running":
                return self.lease + MOST_HOLD_SECONDS
            case "bought":
                return self.ended + KEEP_SECONDS
            case _:
                return self.ended + MOST_HOLD_SECONDS


class Operations(Struct, frozen=True, array_like=True):
    """The operations of equal requests of one key line, in the order of their reservations.

    `succeeded` is when the latest that was bought had been reserved. It clears unknown outcomes
    from before.
    """

    all: tuple[Operation, ...] = ()
    succeeded: float = 0.0

    @property
    def ends(self) -> float:
        """When all of them are forgotten."""
        return max((operation.ends for operation in self.all), default=0.0)

    @property
    def expendable(self) -> int:
        """Whether a full store may forget them.

        0: never, for one is running or unknown. 2: first, for none cost anything. 1: after those.
        """
        if not all(operation.state in ("bought", "failed") for operation in self.all):
            return 0
        return 2 if all(each.free or each.state == "failed" for each in self.all) else 1

    def get(self, id: str) -> Operation | None:
        """Return the operation with this id."""
        return next((each for each in self.all if each.id == id), None)


NONE = Operations()


class Wish(Struct, frozen=True, kw_only=True):
    """A request that is about to be bought by `gateway`.

    `name` is that of its record: see `record_name`. `is_retry` means that an official SDK marked
    it as a retry. The request is `age` seconds old. A repeat of an unknown outcome is refused for
    `hold_seconds`. `shared` means that the answers of other gateways can be reached. The answers of
    the operations in `gone` were lost. A request with a name has the `body`'s digest. With
    `promised`, its client asks later for what it got, in this `form`.

    `alive` has the ends of the leases of other gateways: the ledger fills it in.
    """

    name: str
    gateway: str
    request: str
    fresh: bool
    is_retry: bool
    age: float
    hold_seconds: float
    shared: bool
    gone: frozenset[str] = frozenset()
    body: str = ""
    promised: bool = False
    form: str = ""
    alive: Mapping[str, float] = {}


class Found(Struct, frozen=True):
    """An operation that a request takes over."""

    operation: Operation


class Repeat(Struct, frozen=True):
    """The request repeats an operation of unknown outcome, and is refused for so many seconds."""

    operation: Operation
    seconds: float


def record_name(line: str, digest: str) -> str:
    """Return the name of the record of a key line and the digest of a request's body."""
    return f"{line}:{digest}"


def others(operations: Operations, gateway: str) -> set[str]:
    """Return the other gateways whose leases matter to what is found."""
    buyers = {
        each.gateway
        for each in operations.all
        if each.state not in ("unknown", "failed") and not each.answer
    }
    return (buyers | {each.claimant for each in operations.all}) - {gateway, ""}


def as_of(operation: Operation, gateway: str, alive: Mapping[str, float], now: float) -> Operation:
    """Return the operation as `gateway` sees it: that of a dead gateway ended without an outcome.

    What a dead gateway claimed is free again.
    """

    def lease(name: str, since: float) -> float:
        return inf if name == gateway else max(since + LEASE_SECONDS, alive.get(name, 0.0))

    if operation.claim and lease(operation.claimant, operation.claimed) <= now:
        operation = _given_back(operation)
    ended = lease(operation.gateway, max(operation.at, operation.ended))
    if operation.state != "bought" or operation.body:
        # Its hold is swept then. A store that went back may show it as open for longer, also to the
        # gateway that has ended it.
        ended = min(ended, operation.lease)
    if operation.state in ("unknown", "failed") or ended > now:
        return operation
    if operation.state == "waiting":  # nothing was bought under this name
        return replace(operation, state="failed", ended=ended)
    if operation.state == "bought" and operation.body:
        return operation if operation.answer else replace(operation, answer=GONE)
    if operation.state == "bought":  # its answer is gone with the gateway
        return replace(operation, left=False)
    return replace(operation, state="unknown", ended=ended)


def holder(operations: Operations, wish: Wish, now: float) -> Operation | None:
    """Return the operation that holds the name of this wish. One that failed holds it no longer."""
    known = [
        as_of(each, wish.gateway, wish.alive, now) for each in _remembered(operations.all, now)
    ]
    return next((each for each in known if each.state != "failed"), None)


def find(operations: Operations, wish: Wish, id: str, now: float) -> Found | Repeat | None:
    """Return what a request with this new reservation id finds instead of being bought."""
    if wish.body:
        held = holder(operations, wish, now)
        return None if held is None or held.id == id else Found(held)
    known = [
        as_of(each, wish.gateway, wish.alive, now)
        for each in _remembered(operations.all, now)
        if each.id not in wish.gone
    ]
    for each in known:  # the reply was lost, and the ledger asks again
        if each.claim == id:
            return Found(each)
    answers = [each for each in known if each.state != "unknown"]
    if not wish.shared:
        answers = [each for each in answers if each.gateway == wish.gateway]
    free = [each for each in answers if not each.claim]
    if wish.is_retry:
        running = [each for each in answers if each.state == "running"]
        chosen = (
            [each for each in free if each.left or each.retried]
            or [each for each in running if not each.claim]
            or [each for each in running if each.retried]
        )
    else:
        chosen = [each for each in free if each.left and (each.fresh or not wish.fresh)]
    if chosen:
        # Its like first: one that asked for a new image may be taken over by fewer requests.
        return Found(min(chosen, key=lambda each: (each.fresh != wish.fresh, each.at)))
    began = now - wish.age
    repeated = [
        Repeat(each, each.ended + wish.hold_seconds - now)
        for each in known
        if each.state == "unknown"
        and operations.succeeded < each.ended <= began
        and (each.fresh or not wish.fresh)
    ]
    longest = max(repeated, key=lambda each: each.seconds, default=None)
    return longest if longest is not None and longest.seconds > 0 else None


# -- changes --------------------------------------------------------------------------------------


def claimed(
    operations: Operations, found: Operation, wish: Wish, id: str, now: float
) -> Operations:
    """Give an operation to the request with this reservation id."""
    if wish.body:  # all requests of a name share its operation
        return operations
    # Another request than a retry only takes over what was left: no retry may take it from there.
    claim = {"claim": id, "claimant": wish.gateway, "claimed": now, "retried": wish.is_retry}
    return _with(operations, replace(found, **claim))


def begun(operations: Operations, wish: Wish, id: str, now: float, lease: float) -> Operations:
    """Add the operation of a purchase that was admitted."""
    operation = Operation(
        id=id,
        request=wish.request,
        gateway=wish.gateway,
        at=now,
        lease=lease,
        fresh=wish.fresh,
        body=wish.body,
    )
    if wish.body:
        known = operations.get(id)
        if known is not None and known.promised:
            operation = replace(operation, promised=True, form=known.form)
        elif wish.promised:
            operation = replace(operation, promised=True, form=wish.form)
        return Operations((operation,))
    kept = [
        _given_back(each) if each.id in wish.gone else each
        for each in _remembered(operations.all, now)
        if each.state != "bought" or each.id not in wish.gone
    ]
    return replace(operations, all=(*kept, operation))


def bought(operations: Operations, ended: Operation, now: float, *, cached: bool) -> Operations:
    """End an operation with an answer.

    It stays for a client that takes it over, unless its answer is `cached` where all gateways
    find it. An answer that its own client gets needs no record.
    """
    known = operations.get(ended.id) or ended
    if known.body:
        return Operations((replace(known, state="bought", ended=now),))
    succeeded = max(operations.succeeded, known.at)
    operations = _only(
        replace(operations, succeeded=succeeded),
        lambda each: each.state != "unknown" or each.ended > succeeded,
    )
    if cached or not (known.left or known.claim or known.retried):
        return without(operations, ended.id)
    operations = _with(operations, replace(known, state="bought", ended=now))
    whole = [each for each in operations.all if each.state == "bought"]
    surplus = {each.id for each in whole[: max(0, len(whole) - MOST_BOUGHT)]}
    return _only(operations, lambda each: each.id not in surplus)


def unknown(operations: Operations, ended: Operation, now: float, failure: bytes) -> Operations:
    """End an operation without a clear outcome."""
    known = operations.get(ended.id) or ended
    if known.state == "unknown":
        return operations
    return _with(operations, replace(known, state="unknown", ended=now, failure=failure))


def failed(operations: Operations, id: str, now: float, failure: bytes) -> Operations:
    """End an operation that failed for certain. Its failure is kept if a client asks for it."""
    known = operations.get(id)
    if known is None or not known.promised:
        return without(operations, id)
    return Operations((replace(known, state="failed", ended=now, failure=failure),))


def without(operations: Operations, id: str) -> Operations:
    """Remove an operation that failed for certain, or whose answer was delivered.

    What the request with this reservation id has claimed is free again.
    """
    return _only(left(operations, id), lambda each: each.id != id)


def left(operations: Operations, id: str, whole: Operation | None = None) -> Operations:
    """Note that the client of the request with this reservation id has left.

    It waits neither for the operation of its own nor for one that it has claimed. Its own one is
    added again if it is `whole`, that is bought: it was removed because its client would get the
    answer.
    """
    claimed = next((each for each in operations.all if each.claim == id), None)
    if claimed is not None:
        return _with(operations, _given_back(claimed))
    own = operations.get(id) or whole
    return operations if own is None else _with(operations, replace(own, left=True))


def delivered(operations: Operations, id: str) -> Operations:
    """Remove the operation that the request with this reservation id claimed: it got the answer."""
    return _only(operations, lambda each: each.claim != id)


def _given_back(operation: Operation) -> Operation:
    return replace(operation, claim="", claimant="", claimed=0.0)


def _with(operations: Operations, changed: Operation) -> Operations:
    rest = [each for each in operations.all if each.id != changed.id]
    return replace(operations, all=tuple(sorted([*rest, changed], key=lambda each: each.at)))


def _only(operations: Operations, keep: Callable[[Operation], bool]) -> Operations:
    return replace(operations, all=tuple(each for each in operations.all if keep(each)))


def _remembered(operations: Iterable[Operation], now: float) -> Iterable[Operation]:
    return (each for each in operations if each.ends > now)
