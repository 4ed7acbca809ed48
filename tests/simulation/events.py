"""What clients and the upstream see of a run, and what the gateways promised of it.

Times are in seconds; `at` is the time of the world, `clock` the store's, by which days and minutes
are counted. A client that repeats a request sends several of them for one *call*: `call` in these
events is the id of a single request, and `Asked.first` that of the first one of its call.
"""

from collections.abc import Mapping
from math import inf
from typing import Literal

from msgspec import Struct

from gateway.core.model import Limits


class Asked(Struct, frozen=True, kw_only=True):
    """A client sent a request. `fresh`: it may not share an answer. `gateway` is a process.

    `first` is the first request of its call, "" if this is the first one. `is_marked`: an official
    SDK marked it as a retry. `wants_new`: it carries `no-cache` or `no-store`.
    `name` is its `Idempotency-Key`.
    """

    at: float
    clock: float
    call: str
    team: str
    key: str
    prompt: str
    images: int
    gateway: str
    fresh: bool = False
    first: str = ""
    is_marked: bool = False
    wants_new: bool = False
    name: str = ""

    @property
    def logical(self) -> str:
        """The call that this is a request of."""
        return self.first or self.call

    @property
    def wish(self) -> tuple[str, str, int]:
        """The body of the request, and the team whose cache has its answer."""
        return self.team, self.prompt, self.images

    @property
    def line(self) -> tuple[str, str, int]:
        """The body of the request, and its key: those of its repeats are the same."""
        return self.key, self.prompt, self.images


class Answered(Struct, frozen=True, kw_only=True):
    """The client's request ended. "lost": it saw no answer, or gave up.

    `picture` is the request for which the images were drawn, "" if that is not known.
    """

    at: float
    clock: float
    call: str
    outcome: Literal["images", "refused", "failed", "lost"]
    images: int = 0
    why: str = ""
    picture: str = ""


class Received(Struct, frozen=True, kw_only=True):
    """The upstream received a request for a call."""

    at: float
    clock: float
    call: str


class Drawn(Struct, frozen=True, kw_only=True):
    """The upstream drew images for a call, and bills them. Money is in micro-dollars."""

    at: float
    clock: float
    call: str
    images: int
    cost: int


class Ended(Struct, frozen=True, kw_only=True):
    """The upstream's part in a call ended.

    It "delivered" images, "refused" or clearly failed, or what it did is "unknown" to the gateway.
    A call that it never received ends as "unknown" if it may have been lost on its way.
    """

    at: float
    clock: float
    call: str
    how: Literal["delivered", "refused", "unknown"]


class Trouble(Struct, frozen=True, kw_only=True):
    """Something stood still, died or lost data, from `at` until `until`.

    `gateway` is the process that it concerns, "" for all of them. "stopped": it ended the requests
    in flight, and exited then.
    """

    at: float
    clock: float
    kind: Literal[
        "killed",
        "paused",
        "cut off",
        "store away",
        "went back",
        "failed over",
        "clock jumped",
        "lossy",
        "stopped",
    ]
    until: float
    gateway: str = ""

    @property
    def dead_at(self) -> float:
        """When the gateway died."""
        return self.until if self.kind == "stopped" else self.at


DEATHS = ("killed", "stopped")
"""Troubles that end a gateway's process."""

GAVE_UP, UNSEEN = "gave up", "gave up unseen"
"""Why an answer was lost: the client left. A proxy between may hide that from the gateway."""

REPEATED = "repeated_unknown"
"""Why a request was refused that repeats one without a clear outcome."""

EXPIRED = "result_expired"
"""Why a request under a name failed: what it was answered with is gone."""

LOST = "operation_not_found"
"""Why a client failed that was told to ask later: no gateway knows of its request."""

UNCLEAR = ("upstream_cut", "upstream_timeout", "upstream_unknown")
"""Errors after which the purchase is charged as unknown."""

UNSENT = ("store_unavailable", "draining", "overloaded", "upstream_unreachable")
"""Errors that say that nothing was bought."""

Event = Asked | Answered | Received | Drawn | Ended | Trouble


class Recorded(Struct, frozen=True, kw_only=True):
    """What the gateway recorded of one team (or "" for all) by the end of a run."""

    images: int
    cost: int
    unknown_images: int
    open_holds: int


class Rules(Struct, frozen=True, kw_only=True):
    """What the gateways promised. `limits` maps ("team" | "key" | "gateway", name) to limits.

    `lease` is the longest time that a hold counts. `shared`: one gateway's answers serve all.
    `reachable`: an answer that a client left waits for its repeat at any gateway. A repeat of an
    unknown outcome is refused for `hold` seconds.
    """

    limits: Mapping[tuple[str, str], Limits]
    lease: float
    shared: bool
    reachable: bool = True
    hold: float = 60.0


class Purchase:
    """One call's way to the upstream, put together from the events."""

    def __init__(self, asked: Asked, received: Received) -> None:
        self.asked = asked
        self.received = received
        self.ended_at = inf
        self.ended_clock = inf
        self.how = "unknown"
        self.answered: Answered | None = None
        self.images = 0
        self.cost = 0

    @property
    def wish(self) -> tuple[str, str, int]:
        return self.asked.wish

    @property
    def excess(self) -> tuple[int, int]:
        """The images above those that were asked for, and their cost."""
        images = max(0, self.images - self.asked.images)
        return images, self.cost * images // self.images if images else 0

    @property
    def done_at(self) -> float:
        """When the client had its answer, at the latest when the upstream's part ended."""
        answered = self.answered.at if self.answered else self.ended_at
        return max(answered, self.ended_at) if self.ended_at < inf else answered

    def is_of(self, owner: tuple[str, str]) -> bool:
        scope, name = owner
        return scope == "gateway" or getattr(self.asked, scope) == name
