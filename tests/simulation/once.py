"""The promise that nothing is bought twice, judged from what clients and the upstream saw.

A client that repeats a request still makes one call, so it may cause one purchase. It may get the
purchase of an equal call instead, whose client left, and that call then buys one of its own. So
each purchase is counted for one call: the one that bought it, one that got its picture, or one that
waited when it was bought. Each call may count for one purchase, apart from those that certainly
failed. Requests under a name cause at most one purchase, and all get the same.

A second one is excused only by the names in `_excuse`, as docs/how-we-know.md has them.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from msgspec import Struct

from tests.simulation.events import (
    DEATHS,
    EXPIRED,
    GAVE_UP,
    LOST,
    REPEATED,
    UNCLEAR,
    UNSEEN,
    Answered,
    Asked,
    Purchase,
    Rules,
    Trouble,
)

SOON = 0.5
"""After so many seconds what a client does is written in the store, if nothing stands still."""

ALIVE = 5.0
"""How long a gateway that died counts as alive."""

LOSSES = ("went back", "failed over")
"""Troubles by which a store may forget what it had written."""

LONG = 290.0
"""No client waits so long for an answer, unless the gateway has forgotten it."""


class Seen(Struct, frozen=True):
    """What was seen of a run: requests, answers and purchases by the id of the request."""

    asked: Mapping[str, Asked]
    answered: Mapping[str, Answered]
    purchases: Mapping[str, Purchase]
    troubles: Sequence[Trouble]
    rules: Rules


def bought_twice(seen: Seen) -> Iterator[str]:
    """Yield each purchase that should not have been, and each refusal that was wrong."""
    yield from _shared(seen)
    lines: dict[tuple[str, str, int], list[Purchase]] = defaultdict(list)
    for p in seen.purchases.values():
        if p.how != "refused" and not p.asked.name:
            lines[p.asked.line].append(p)
    for purchases in lines.values():
        purchases.sort(key=lambda p: p.received.at)
        yield from _more_than_calls(purchases, seen)
        yield from _repeats(purchases, seen)
    yield from _refusals(lines, seen)
    yield from _pictures(seen)
    yield from _names(seen)
    for call, answer in seen.answered.items():
        if answer.why == GAVE_UP and answer.at - seen.asked[call].at >= LONG:
            yield f"{call} waited in vain"


# -- identical requests with a cache ---------------------------------------------------------------


def _shared(seen: Seen) -> Iterator[str]:
    wishes = defaultdict(list)
    for p in seen.purchases.values():
        if not p.asked.fresh:
            wishes[p.wish].append(p)
    for same in wishes.values():
        for one, other in combinations(sorted(same, key=lambda p: p.received.at), 2):
            in_one = one.asked.gateway == other.asked.gateway
            if not in_one and (not seen.rules.shared or _lease_may_be_lost(one, other, seen)):
                continue
            if other.received.at < one.ended_at:
                yield f"{one.asked.call} and {other.asked.call} were bought at the same time"
            elif one.how != "refused" and one.answered and one.answered.outcome == "images":
                yield f"{other.asked.call} was bought although {one.asked.call} had its answer"


def _lease_may_be_lost(one: Purchase, other: Purchase, seen: Seen) -> bool:
    start = min(one.asked.at, other.asked.at)
    end = max(one.done_at, other.received.at)
    gateways = ("", one.asked.gateway, other.asked.gateway)
    return any(
        trouble.gateway in gateways and trouble.at <= end and trouble.until + 10.0 >= start
        for trouble in seen.troubles
    )


# -- repeats of one call ---------------------------------------------------------------------------


def _more_than_calls(purchases: Sequence[Purchase], seen: Seen) -> Iterator[str]:
    """Compare equal purchases of one key with the calls that they count for."""
    if len(purchases) < 2:
        return
    counted: dict[str, Purchase] = {}
    equal = [ask for ask in seen.asked.values() if ask.line == purchases[0].asked.line]
    for index, p in enumerate(purchases):
        if not _count(p, counted, equal, seen, set()):
            former = purchases[:index]
            if not any(_excuse(q, p, seen) for q in former):
                same = [q.asked.call for q in former if q.asked.logical == p.asked.logical]
                yield f"{p.asked.call} was bought after {same}, equal to {len(former)} in all"


def _count(
    p: Purchase,
    counted: dict[str, Purchase],
    equal: Sequence[Asked],
    seen: Seen,
    tried: set[str],
) -> bool:
    """Count a purchase for a call that has none yet, if need be by counting others anew."""
    for call in _calls_of(p, equal, seen):
        if call not in tried:
            tried.add(call)
            former = counted.get(call)
            if former is None or _count(former, counted, equal, seen, tried):
                counted[call] = p
                return True
    return False


def _calls_of(p: Purchase, equal: Sequence[Asked], seen: Seen) -> list[str]:
    """The calls that a purchase may count for."""
    calls = [p.asked.logical]
    for ask in equal:
        answer = seen.answered.get(ask.call)
        got_it = answer is not None and answer.picture == p.asked.call
        waited = ask.at <= p.received.at and (answer is None or answer.at + SOON >= p.received.at)
        if got_it or waited:
            calls.append(ask.logical)
    return calls


def _repeats(purchases: Sequence[Purchase], seen: Seen) -> Iterator[str]:
    """Look for purchases that repeat one whose client saw that its outcome is unknown."""
    for one, other in combinations(purchases, 2):
        answer = one.answered
        if (
            one.how == "unknown"
            and answer is not None
            and answer.why in UNCLEAR
            and other.asked.at > max(answer.at, one.ended_at) + SOON
            and (one.asked.wants_new or not other.asked.wants_new)
            and not _excuse(one, other, seen)
        ):
            yield f"{other.asked.call} was bought although {one.asked.call} ended as unknown"


def _excuse(one: Purchase, other: Purchase, seen: Seen) -> str:
    """Return the name of the reason for which `other` may be bought after an equal purchase."""
    rules = seen.rules
    if one.how == "unknown" and other.received.clock >= one.ended_clock + rules.hold:
        return "the hold of repeats is over"
    if one.how == "unknown" and _was_cleared(one, other.asked.at + SOON, seen):
        return "a later success"
    is_running = other.asked.at < one.ended_at
    joins = other.asked.is_marked and is_running
    if one.answered and one.answered.why == UNSEEN and not joins:
        return "its client left unseen"
    is_elsewhere = one.asked.gateway != other.asked.gateway
    if is_elsewhere and not rules.reachable and (one.how == "delivered" or is_running):
        return "its answer is out of reach"
    for trouble in seen.troubles:
        if trouble.at <= other.received.at and trouble.until + 10.0 >= one.asked.at:
            name = _excuse_by(trouble, one, other, rules.hold)
            if name:
                return name
    return ""


def _excuse_by(trouble: Trouble, one: Purchase, other: Purchase, hold: float) -> str:
    """Return the reason for a second purchase that this trouble is. Not each death is one."""
    if trouble.kind not in DEATHS:
        return trouble.kind
    if other.asked.at <= trouble.dead_at + ALIVE + SOON:
        return "requests buy that wait when a gateway dies"
    if trouble.gateway != one.asked.gateway:
        return ""
    if one.how == "delivered" and one.ended_at <= trouble.dead_at:
        return "its answer is gone with its gateway"
    is_over = other.received.clock >= trouble.clock + hold
    return "the hold of repeats is over" if is_over else ""


def _was_cleared(one: Purchase, at: float, seen: Seen) -> bool:
    """Whether an equal purchase that was made after the end of this one has succeeded by then."""
    return any(
        p.asked.line == one.asked.line
        and not p.asked.name
        and p.how == "delivered"
        and p.received.at > one.ended_at
        and p.ended_at <= at
        for p in seen.purchases.values()
    )


def _refusals(
    lines: Mapping[tuple[str, str, int], Sequence[Purchase]], seen: Seen
) -> Iterator[str]:
    """Look for requests that were refused as repeats although they were none."""
    for call, answer in seen.answered.items():
        if answer.why != REPEATED:
            continue
        ask = seen.asked[call]
        equal = _of_name(ask, seen) if ask.name else lines.get(ask.line, ())
        first = min((p.asked.at for p in equal), default=ask.at)
        if any(t.at <= answer.at and t.until + 10.0 >= first for t in seen.troubles):
            continue
        if ask.name and any(p.how == "unknown" for p in equal):
            continue
        if not any(
            p.how == "unknown"
            and p.ended_at <= ask.at + SOON
            and answer.clock <= p.ended_clock + seen.rules.hold + SOON
            and (p.asked.wants_new or not ask.wants_new)
            and not _was_cleared(p, ask.at - SOON, seen)
            for p in equal
        ):
            yield f"{call} was refused as a repeat, and nothing equal ended as unknown"


# -- pictures --------------------------------------------------------------------------------------


def _pictures(seen: Seen) -> Iterator[str]:
    """Look for pictures of others: without a cache each call gets its own, or one that was left."""
    owners: dict[str, str] = {}
    for call, answer in seen.answered.items():
        if not answer.picture:
            continue
        ask, drawn_for = seen.asked[call], seen.asked[answer.picture]
        if drawn_for.wish != ask.wish:
            yield f"{call} got the picture of {answer.picture}, another request"
        if ask.fresh and drawn_for.name != ask.name:
            yield f"{call} got the picture of {answer.picture}, under another name"
        if not ask.fresh or ask.is_marked or ask.name:
            continue
        if ask.wants_new and not drawn_for.wants_new:
            yield f"{call} asked for a new picture, and got that of {answer.picture}"
        if drawn_for.line != ask.line:
            yield f"{call} got the picture of {answer.picture}, of another key"
        if answer.picture in owners and not _forgets(seen, answer):
            yield f"{call} got the same picture as {owners[answer.picture]}"
        owners[answer.picture] = call
        own = seen.answered.get(answer.picture)
        left = own is not None and own.outcome == "lost" and own.at <= answer.at
        if answer.picture != call and not left:
            yield f"{call} got the picture of {answer.picture}, whose client waited"


def _forgets(seen: Seen, answer: Answered) -> bool:
    """Whether the store may have forgotten by then who has taken over what."""
    return any(trouble.kind in LOSSES and trouble.at <= answer.at for trouble in seen.troubles)


# -- names -----------------------------------------------------------------------------------------


def _of_name(ask: Asked, seen: Seen) -> Sequence[Purchase]:
    """The purchases that a request under a name may have got, or joined."""
    return [
        p
        for p in seen.purchases.values()
        if p.wish == ask.wish and (p.asked.name == ask.name or not ask.fresh)
    ]


def _names(seen: Seen) -> Iterator[str]:
    """Look for names with several purchases or pictures."""
    bought, pictures = defaultdict[object, list[str]](list), defaultdict[object, set[str]](set)
    for call, p in seen.purchases.items():
        if p.asked.name and p.how != "refused":
            bought[p.asked.team, p.asked.name].append(call)
    if not any(trouble.kind in LOSSES for trouble in seen.troubles):
        yield from (f"{calls} were bought under one name" for calls in bought.values() if calls[1:])
        lost = [call for call, answer in seen.answered.items() if answer.why == LOST]
        yield from (f"{call} was promised an answer, and nobody knows of it" for call in lost)
    if seen.troubles:
        return
    for call, answer in seen.answered.items():
        ask = seen.asked[call]
        if ask.name and answer.picture:
            pictures[ask.team, ask.name].add(answer.picture)
        if answer.why == EXPIRED and ask.fresh and seen.rules.reachable:
            yield f"{call} did not get the answer under its name"
    yield from (f"{each} came under one name" for each in pictures.values() if len(each) > 1)
