"""What clients and the upstream saw of a run, and whether that keeps the gateway's promises.

This file knows nothing of ledger, accounts or elections: it judges from the outside. The same
check serves the simulation and runs with real processes. Times are in seconds; `at` is the time
of the world, `clock` the store's, by which days and minutes are counted.

A run may break a promise only where the documentation says so (docs/how-we-know.md):

- *The store went back*: what was reserved or settled in the writes that it lost may pass a limit,
  and what was settled in them may be missing from the usage. So may what was reserved in them, if
  its gateway died before it could write the outcome.
- *The upstream delivered more than was asked*: a limit may be passed by exactly that excess. Once
  that is settled, it refuses the next purchase. Of an answer that no gateway could read, or whose
  gateway died, nobody knows the excess, so it may be missing from the usage.
- *A lease was lost*: gateways of a store may buy the same image twice while the store, the network
  or one of them stands still, dies or loses messages.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import inf

from gateway.core.model import Limits
from tests.simulation.events import (
    DEATHS,
    UNSENT,
    Answered,
    Asked,
    Drawn,
    Ended,
    Event,
    Purchase,
    Received,
    Recorded,
    Rules,
    Trouble,
)
from tests.simulation.once import Seen, bought_twice

MINUTE = 60.0
LATEST = 60.0
"""A command that was given up runs at the store no later than so many seconds after it was sent."""

SETTLED = 5.0
"""After so many seconds a purchase that ended is settled, unless the store is away."""


def violations(
    events: Sequence[Event], recorded: Mapping[str, Recorded], rules: Rules
) -> list[str]:
    """Return each broken promise, in words."""
    asked = {event.call: event for event in events if isinstance(event, Asked)}
    answered = {event.call: event for event in events if isinstance(event, Answered)}
    troubles = [event for event in events if isinstance(event, Trouble)]
    purchases: dict[str, Purchase] = {}
    lost_calls: set[str] = set()
    found: list[str] = []
    for event in events:
        if isinstance(event, Received):
            if event.call in purchases:
                found.append(f"{event.call} was sent to the upstream twice")
            purchases[event.call] = Purchase(asked[event.call], event)
            purchases[event.call].answered = answered.get(event.call)
        elif isinstance(event, Drawn):
            purchases[event.call].images += event.images
            purchases[event.call].cost += event.cost
        elif isinstance(event, Ended) and event.call not in purchases:
            lost_calls.add(event.call)
        elif isinstance(event, Ended):
            purchases[event.call].ended_at = event.at
            purchases[event.call].ended_clock = event.clock
            purchases[event.call].how = event.how
    bought = list(purchases.values())
    lost = [p for p in bought if any(_may_be_lost(p, t) for t in troubles)]
    found += _above_limits(bought, lost, troubles, rules)
    found += _books(bought, troubles, recorded)
    found += _unexplained(asked, answered, purchases, lost_calls, troubles, recorded)
    found += bought_twice(Seen(asked, answered, purchases, troubles, rules))
    found += _answers(asked, answered, bought, troubles)
    return found


def _may_be_lost(purchase: Purchase, trouble: Trouble) -> bool:
    """Whether the store lost the reservation or the settlement when it went back."""
    overlaps = purchase.asked.at <= trouble.until and purchase.done_at + SETTLED >= trouble.at
    return trouble.kind == "went back" and overlaps


def _settlement_may_be_lost(purchase: Purchase, trouble: Trouble) -> bool:
    """Whether the purchase was settled before the store went back, in writes that it lost."""
    return _may_be_lost(purchase, trouble) and purchase.ended_at <= trouble.until


def _may_be_unsettled(purchase: Purchase, killed: Trouble, troubles: Sequence[Trouble]) -> bool:
    """Whether its gateway died before it could write the outcome: it may have been cut off."""
    if killed.gateway != purchase.asked.gateway or killed.dead_at < purchase.received.at:
        return False
    away = [
        t.until
        for t in troubles
        if t.kind in ("store away", "failed over")
        or (t.kind in ("cut off", "paused") and t.gateway == killed.gateway)
    ]
    in_time = [purchase.ended_at, *(until for until in away if until >= purchase.ended_at)]
    return killed.dead_at <= max(in_time) + SETTLED


def _excess_is_unknown(purchase: Purchase, troubles: Sequence[Trouble]) -> bool:
    """Whether no gateway could read the excess, or its settlement was late and then lost."""
    if purchase.how != "delivered":
        return True
    losses = ("went back", ""), *((death, purchase.asked.gateway) for death in DEATHS)
    return _excess_counts_at(purchase, troubles) == inf and any(
        (trouble.kind, trouble.gateway) in losses and purchase.asked.at <= trouble.until
        for trouble in troubles
    )


def _excess_counts_at(purchase: Purchase, troubles: Iterable[Trouble]) -> float:
    """From when on the excess of a purchase refuses others: late or never if there is trouble."""
    settled_at = purchase.done_at + SETTLED
    in_trouble = any(
        trouble.at <= settled_at and purchase.asked.at <= trouble.until for trouble in troubles
    )
    return inf if in_trouble or purchase.how != "delivered" else settled_at


# -- never overspent -------------------------------------------------------------------------------


def _above_limits(
    bought: Sequence[Purchase],
    lost: Sequence[Purchase],
    troubles: Sequence[Trouble],
    rules: Rules,
) -> Iterator[str]:
    for owner, limits in rules.limits.items():
        own = [p for p in bought if p.is_of(owner)]
        excused = [p for p in lost if p.is_of(owner)]
        for span in ("day", "month"):
            yield from _above_budget(owner, limits, own, excused, troubles, span)
        own.sort(key=lambda p: p.asked.clock)
        starts = [p.asked.clock for p in own]
        if (most := limits.requests_per_minute) is not None:
            for start in starts:
                inside = own[bisect_left(starts, start) : bisect_left(starts, start + MINUTE)]
                count = sum(q.received.clock < start + MINUTE for q in inside)
                if count > most + len(excused):
                    yield f"{owner}: {count} purchases in a minute from {start}, limit {most}"
        if (most := limits.concurrent_requests) is not None:
            for p in own:
                now = p.received.clock
                leased = own[bisect_right(starts, now - rules.lease) : bisect_right(starts, now)]
                count = sum(
                    q.received.clock <= now < q.ended_clock and not _was_cut(q, p, troubles)
                    for q in leased
                )
                if count > most + len(excused):
                    yield f"{owner}: {count} calls in flight at {now}, limit {most}"


def _was_cut(purchase: Purchase, later: Purchase, troubles: Iterable[Trouble]) -> bool:
    """Whether a drain may have ended the call before the later one: its upstream may go on drawing.

    It ends the calls that are left some time before the process ends.
    """
    return any(
        t.kind == "stopped"
        and t.gateway == purchase.asked.gateway
        and purchase.received.at <= t.until
        and t.at <= later.received.at
        for t in troubles
    )


def _above_budget(
    owner: tuple[str, str],
    limits: Limits,
    own: Iterable[Purchase],
    excused: Iterable[Purchase],
    troubles: Sequence[Trouble],
    span: str,
) -> Iterator[str]:
    """Compare what was drawn in each period. A reservation is made between asked and received.

    Only excess that did not count yet when the last purchase was admitted may pass a limit.
    """
    periods: dict[str, list[Purchase]] = defaultdict(list)
    for p in own:
        if _period(p.asked.clock, span) == (period := _period(p.received.clock, span)):
            periods[period].append(p)
    lost = [(p.images, p.cost) for p in excused]
    most = getattr(limits, f"images_per_{span}"), getattr(limits, f"cost_per_{span}")
    for period, purchases in periods.items():
        last = max(p.asked.at for p in purchases)
        late = [p.excess for p in purchases if _excess_counts_at(p, troubles) >= last]
        for number, (what, size) in enumerate(zip(("images", "cost"), most, strict=True)):
            amount = sum(getattr(p, what) for p in purchases)
            more = sum(each[number] for each in (*lost, *late))
            if size is not None and amount > size + more:
                yield f"{owner}: {what} {amount} in {period}, limit {size}"


def _period(clock: float, span: str) -> str:
    return datetime.fromtimestamp(clock, UTC).strftime("%Y-%m-%d" if span == "day" else "%Y-%m")


def _books(
    bought: Sequence[Purchase], troubles: Sequence[Trouble], recorded: Mapping[str, Recorded]
) -> Iterator[str]:
    killed = [t for t in troubles if t.kind in DEATHS]
    lost = [
        p
        for p in bought
        if any(
            _settlement_may_be_lost(p, t)
            or (_may_be_lost(p, t) and any(_may_be_unsettled(p, k, troubles) for k in killed))
            for t in troubles
        )
    ]
    unread = [p for p in bought if p not in lost and _excess_is_unknown(p, troubles)]
    for team, book in recorded.items():
        if book.open_holds:
            yield f"{team}: {book.open_holds} holds are left open"
        for number, what in enumerate(("images", "cost")):
            drawn, written = _sum(bought, team, what), getattr(book, what)
            excess = sum(p.excess[number] for p in unread if team in ("", p.asked.team))
            missing = _sum(lost, team, what) + excess
            if written < drawn - missing:
                yield f"{team}: {what} {drawn} were bought, {written} are recorded"
        certain = book.images - book.unknown_images
        if certain > (drawn := _sum(bought, team, "images")):
            yield f"{team}: {certain} images are recorded as bought, {drawn} were"


def _unexplained(
    asked: Mapping[str, Asked],
    answered: Mapping[str, Answered],
    purchases: Mapping[str, Purchase],
    lost_calls: Container[str],
    troubles: Sequence[Trouble],
    recorded: Mapping[str, Recorded],
) -> Iterator[str]:
    """Compare unknown charges with the calls whose end a gateway may not have known."""
    killed = {trouble.gateway for trouble in troubles if trouble.kind in DEATHS}
    explained: dict[str, int] = defaultdict(int)
    for call, ask in asked.items():
        p = purchases.get(call)
        is_unclear = call in lost_calls or (p is not None and p.how == "unknown")
        ends = answered[call].at if call in answered else inf
        is_lost = any(
            t.kind == "went back" and ask.at <= t.until and ends + LATEST >= t.at for t in troubles
        )
        if is_unclear or is_lost or ask.gateway in killed:
            explained[ask.team] += ask.images
    for team, book in recorded.items():
        if book.unknown_images > explained[team]:
            yield (
                f"{team}: {book.unknown_images} images are charged as unknown, "
                f"{explained[team]} can be explained"
            )


def _sum(purchases: Iterable[Purchase], team: str, what: str) -> int:
    return sum(getattr(p, what) for p in purchases if team in ("", p.asked.team))


# -- answers ---------------------------------------------------------------------------------------


def _answers(
    asked: Mapping[str, Asked],
    answered: Mapping[str, Answered],
    bought: Sequence[Purchase],
    troubles: Sequence[Trouble],
) -> Iterator[str]:
    sent = {p.asked.call for p in bought}
    drawn: dict[tuple[str, str, int], float] = {}
    amounts: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for p in bought:
        if p.images:
            drawn[p.wish] = min(p.received.at, drawn.get(p.wish, inf))
            amounts[p.wish].add(p.images)
    for call, answer in answered.items():
        # At the end of a drain, a request may be refused although its purchase is being recorded,
        # and so may one whose purchase the store has forgotten.
        is_drained = answer.why == "draining" and any(
            t.kind in ("stopped", "went back")
            and t.gateway in ("", asked[call].gateway)
            and t.at <= answer.at
            for t in troubles
        )
        is_refused = answer.outcome == "refused" or answer.why in UNSENT
        if call in sent and is_refused and not is_drained:
            yield f"{call} was refused ({answer.why}), but sent to the upstream"
        if answer.why.startswith("defect"):
            yield f"{call} failed by a {answer.why}"
        if answer.outcome != "images":
            continue
        ask = asked[call]
        if answer.images < ask.images or answer.images not in (amounts[ask.wish] or {ask.images}):
            yield f"{call} asked for {ask.images} images and got {answer.images}"
        if drawn.get(ask.wish, inf) > answer.at:
            yield f"{call} got images that nobody drew"
