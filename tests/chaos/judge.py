"""What a run with real processes saw, in the words of `tests.simulation.history`.

The harness knows what clients saw, the sandbox what arrived there. Neither knows what a gateway
learned of a call. It may be unclear to it only if the connection or one of both processes was
disturbed meanwhile, or if the sandbox itself cut it, gave no clear answer or was too slow.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from gateway.core.money import dollars
from tests.chaos.upstream import Seen
from tests.simulation.events import Answered, Asked, Drawn, Ended, Event, Received, Recorded
from tests.support.rig import PRICE, Got

UNCLEAR = ("upstream_cut", "upstream_timeout", "upstream_unknown")
"""Errors after which the purchase is charged as unknown."""

NO_CONNECTION = "no connection"
"""Why an answer was lost that nobody was asked for: the gateway never got the request."""

CLEAR = (400, 429, 500, 503)
"""Statuses of the sandbox that say that it drew nothing."""

SLACK_SECONDS = 0.5
"""A gateway's timeout begins before the sandbox gets the request, by so much on a busy machine."""


class Disturbed(Struct, frozen=True, kw_only=True):
    """Calls to the upstream may have been cut, delayed or lost meanwhile.

    "stalled": the sandbox stood still. "cut": connections were cut at `at`. `gateway` is the
    process that it concerns, "" for all of them.
    """

    at: float
    until: float
    gateway: str = ""
    kind: Literal["stalled", "cut", "other"] = "other"


class Clock:
    """The store's clock: the machine's, and how far it had jumped ahead at which time."""

    def __init__(self) -> None:
        self._times = [0.0]
        self._ahead = [0.0]

    @property
    def ahead(self) -> float:
        """How many seconds it is ahead."""
        return self._ahead[-1]

    def jump(self, at: float, seconds: float) -> None:
        """It jumps further ahead."""
        self._times.append(at)
        self._ahead.append(self.ahead + seconds)

    def times(self, at: float) -> dict[str, Any]:
        """The fields `at` and `clock` of an event."""
        return {"at": at, "clock": at + self._ahead[bisect_right(self._times, at) - 1]}


def outcome(got: Got) -> dict[str, Any]:
    """How a request ended for its client, as fields of `Answered`."""
    if got.status == 200:
        return {"outcome": "images", "images": len(got.json["data"])}
    _, kind, code = got.error
    if kind in ("insufficient_quota", "rate_limit_error"):
        return {"outcome": "refused", "why": code}
    is_defect = code == "internal_error"
    return {"outcome": "failed", "why": f"defect {got.json}" if is_defect else str(code)}


def upstream_events(
    seen: Sequence[Seen],
    clients: Sequence[Event],
    disturbances: Sequence[Disturbed],
    clock: Clock,
    timeout: float,
) -> Iterator[Event]:
    """Return the upstream's events of a run in which calls take at most `timeout` seconds."""
    asked = {event.call: event for event in clients if isinstance(event, Asked)}
    answered = {event.call: event for event in clients if isinstance(event, Answered)}
    lines: dict[str, list[Seen]] = defaultdict(list)
    for each in seen:
        lines[each.call].append(each)
    for call, ask in asked.items():
        answer = answered.get(call)
        own = [each for each in disturbances if each.gateway in ("", ask.gateway)]
        if call in lines:
            yield from _call(ask, answer, lines[call], own, clock, timeout)
        elif _is_open(answer):
            end = (answer.at if answer else ask.at) + timeout + 5.0
            if any(each.at <= end and each.until >= ask.at for each in own):
                yield Ended(**clock.times(end), call=call, how="unknown")


def _is_open(answer: Answered | None) -> bool:
    """Whether the gateway may not know how the upstream's part in the call ended."""
    if answer is None or answer.outcome == "lost":
        return answer is None or answer.why != NO_CONNECTION
    return answer.why in UNCLEAR


def _call(
    asked: Asked,
    answer: Answered | None,
    lines: Sequence[Seen],
    disturbances: Sequence[Disturbed],
    clock: Clock,
    timeout: float,
) -> Iterator[Event]:
    first, last = min(lines, key=lambda each: each.at), max(lines, key=lambda each: each.at)
    sent = first.at
    for each in disturbances:
        # It may have been sent while the sandbox stood still, which then received it late.
        if each.kind == "stalled" and each.at <= first.at <= each.until + 1.0:
            sent = max(asked.at, min(sent, each.at))
    ends = [last.at] if last.has_ended else []
    ends += [each.at for each in disturbances if each.kind == "cut" and sent <= each.at]
    if answer is not None and answer.why in UNCLEAR:
        ends.append(answer.at)
    end = min([sent + timeout - SLACK_SECONDS, *ends])
    for _ in range(sum(not each.has_ended for each in lines)):
        # The gateway may have given up before the sandbox got to read the request.
        yield Received(**clock.times(min(first.at, end)), call=asked.call)
    if images := last.images_drawn:
        cost = images * PRICE
        yield Drawn(**clock.times(last.at), call=asked.call, images=images, cost=cost)
    if not last.has_ended:
        return
    seconds = max(last.at, answer.at if answer else 0.0) - sent
    is_disturbed = seconds > timeout / 2 or any(
        each.at <= sent + seconds and each.until >= sent for each in disturbances
    )
    how: Literal["delivered", "refused", "unknown"]
    if is_disturbed and _is_open(answer):
        how = "unknown"
    elif last.delivered:
        how = "delivered"
    else:
        how = "refused" if last.status in CLEAR else "unknown"
    yield Ended(**clock.times(end), call=asked.call, how=how)


def recorded_of(rows: Sequence[Mapping[str, str]], holds: Mapping[str, int]) -> dict[str, Recorded]:
    """Return what `gateway usage --by team --format json` shows, with the open holds of teams."""
    by_team = {row["team"]: row for row in rows}
    nothing = {"images_bought": "0", "images_unknown": "0", "cost_usd": "0"}
    recorded = {}
    for team, number in holds.items():
        row = by_team.get(team, nothing)
        recorded[team] = Recorded(
            images=int(row["images_bought"]),
            cost=dollars(row["cost_usd"]),
            unknown_images=int(row["images_unknown"]),
            open_holds=number,
        )
    return recorded
