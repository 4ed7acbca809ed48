"""Short histories for the tests of the checker, and what it finds in them."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec.structs import replace

from tests.simulation.events import (
    GAVE_UP,
    Answered,
    Asked,
    Drawn,
    Ended,
    Event,
    Received,
    Recorded,
    Rules,
    Trouble,
)
from tests.simulation.history import violations

NOON = 1_772_366_400.0
PRICE = 40_000
UNLIMITED = Rules(limits={}, lease=305.0, shared=True)

Kind = Literal["killed", "stopped", "paused", "cut off", "store away", "went back", "failed over"]


def asked(call: str, at: float = 0.0, *, prompt: str = "", **fields: Any) -> Asked:
    """A request. Without a prompt it is for a picture of its own."""
    values = {"team": "red", "key": "k", "gateway": "g1", "images": 1, **fields}
    return Asked(at=at, clock=NOON + at, call=call, prompt=prompt or call, **values)


def answered(call: str, at: float, **fields: Any) -> Answered:
    """An answer, by default with the picture that was drawn for the request itself."""
    values = {"outcome": "images", "images": 1, "picture": call, **fields}
    if values["outcome"] != "images":
        values = {**values, "images": 0, "picture": ""}
    return Answered(at=at, clock=NOON + at, call=call, **values)


def purchase(
    call: str,
    at: float = 0.0,
    *,
    seconds: float = 5.0,
    images: int = 1,
    excess: int = 0,
    how: Literal["delivered", "refused", "unknown"] = "delivered",
    drawn: bool = True,
    left: float | None = None,
    **fields: Any,
) -> list[Event]:
    """The events of a request that is bought. Its client may have `left` after so many seconds.

    The upstream draws `excess` images more than were asked for.
    """
    end = at + seconds
    events: list[Event] = [
        asked(call, at, images=images, **fields),
        Received(at=at + 0.1, clock=NOON + at + 0.1, call=call),
    ]
    images += excess
    if drawn:
        events.append(
            Drawn(at=end, clock=NOON + end, call=call, images=images, cost=images * PRICE)
        )
    events.append(Ended(at=end, clock=NOON + end, call=call, how=how))
    if left is not None:
        events.append(answered(call, at + left, outcome="lost", why=GAVE_UP))
    elif how == "delivered":
        events.append(answered(call, end, images=images))
    else:
        why = "upstream_timeout" if how == "unknown" else "upstream_failed"
        events.append(answered(call, end, outcome="failed", why=why))
    return events


def trouble(kind: Kind, at: float, until: float, gateway: str = "") -> Trouble:
    return Trouble(at=at, clock=NOON + at, kind=kind, until=until, gateway=gateway)


def books(images: int, unknown: int = 0, holds: int = 0) -> dict[str, Recorded]:
    return {
        "red": Recorded(
            images=images, cost=images * PRICE, unknown_images=unknown, open_holds=holds
        )
    }


def found(
    events: Iterable[Event], recorded: Mapping[str, Recorded], rules: Rules = UNLIMITED
) -> list[str]:
    return violations(sorted(events, key=lambda event: event.at), recorded, rules)


def wrong(*parts: Any, **rules: Any) -> list[str]:
    """What is found in a history whose books are right."""
    events = [event for part in parts for event in ([part] if isinstance(part, Event) else part)]
    images = sum(event.images for event in events if isinstance(event, Drawn))
    return found(events, books(images), replace(UNLIMITED, **rules))
