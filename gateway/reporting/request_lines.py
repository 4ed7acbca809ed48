"""Recent requests, errors by kind and latency: what is kept of each request beside the money.

Of recent requests only so many are kept, and nobody may push out what others look for. So each
belongs to a ring, which has its share of the room: purchases and failures, answers that cost
nothing, and requests without a known key. What comes too often is one line with a number.

No prompt and no key is in here: ids, names that an operator chose, numbers, and words from closed
sets.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

READS = frozenset({"models", "quota", "usage"})
"""Outcomes of requests that ask for no image: they are not kept."""

GIVEN = frozenset({"hit", "collapsed"})
"""Outcomes of answers that cost nothing."""

GOOD = GIVEN | READS | {"miss"}
"""Outcomes of what went well; all others are errors."""

Ring = Literal["notable", "given", "strangers"]
RINGS: tuple[Ring, ...] = ("notable", "given", "strangers")

PLACE = r"\A[0-9]{13}[0-9a-f]{16}\Z"
"""What a line's place looks like."""

LINE_DAYS = 7
ERROR_DAYS = 90
LATENCY_DAYS = 400
"""For how many days each is kept."""

SHOWN_DIGITS = 16
"""Digits of a fingerprint that are kept: enough to tell requests apart."""


class Line(Struct, frozen=True, kw_only=True, array_like=True):
    """One request that has ended, or `requests` alike: then the times are their mean, the amounts
    their sum, and the id and the time that of the last.

    `place` is unlike that of any other line, and sorts lines by time. `total`, `own` (without
    waiting for client and upstream) and `upstream` are seconds, money is micro-dollars. `route` is
    None for a request for images.
    """

    place: str
    id: str
    team: str | None
    key: str | None
    model: str | None
    size: str | None
    quality: str | None
    outcome: str
    status: int
    code: str | None
    requests: int
    images: int
    cost: int
    saved: int
    total: float
    own: float
    upstream: float | None
    fingerprint: str | None
    route: str | None = None

    @property
    def at(self) -> float:
        """When it ended, to the millisecond: seconds since the epoch."""
        return int(self.place[:13]) / 1000

    @property
    def ring(self) -> Ring:
        """Which lines it shares its room with."""
        if self.team is None:
            return "strangers"
        return "given" if self.outcome in GIVEN else "notable"


def place(at: float, writer: str, number: int) -> str:
    """The place of a line that a writer (8 hexadecimal digits) makes as its `number`th."""
    return f"{moment(at)}{writer}{number % 2**32:08x}"


def moment(at: float) -> str:
    """What the places of a time begin with; it sorts before all of them."""
    return f"{max(0, int(at * 1000)):013d}"


def shares(keep: int) -> Mapping[Ring, int]:
    """How many lines of each ring are kept, of so many in all."""
    given, strangers = keep // 2, keep // 10
    return {"notable": keep - given - strangers, "given": given, "strangers": strangers}


class Wanted(Struct, frozen=True, kw_only=True):
    """Which lines are asked for: all that have what is set here. `errors` leaves out what went
    well, `since` (of `moment`) what ended before.
    """

    team: str | None = None
    key: str | None = None
    outcome: str | None = None
    id: str | None = None
    errors: bool = False
    since: str = ""

    def takes(self, line: Line) -> bool:
        """Whether the line is asked for."""
        return (
            self.team in (None, line.team)
            and self.key in (None, line.key)
            and self.outcome in (None, line.outcome)
            and self.id in (None, line.id)
            and not (self.errors and line.outcome in GOOD)
            and self.since <= line.place
        )


# -- errors -------------------------------------------------------------------------------------


class ErrorKind(Struct, frozen=True, kw_only=True):
    """How often something went wrong in one way, and when and in which request the last time."""

    outcome: str
    code: str | None
    status: int
    requests: int
    last_at: float
    last_id: str

    def plus(self, other: "ErrorKind") -> "ErrorKind":
        """Both together; of two at the same time the other one is the last."""
        last = other if other.last_at >= self.last_at else self
        return replace(last, requests=self.requests + other.requests)


class TeamErrors(Struct, frozen=True):
    """Errors of one kind of one team; None is nobody's that is known."""

    team: str | None
    kind: ErrorKind


def together(kinds: Iterable[ErrorKind]) -> list[ErrorKind]:
    """Kinds that are alike as one, the most frequent first."""
    found: dict[tuple[str, str | None, int], ErrorKind] = {}
    for kind in kinds:
        name = (kind.outcome, kind.code, kind.status)
        found[name] = kind.plus(found[name]) if name in found else kind
    return sorted(found.values(), key=lambda kind: (-kind.requests, kind.outcome, kind.last_id))


# -- latency ------------------------------------------------------------------------------------

OWN_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)
UPSTREAM_BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0)
"""Seconds up to which the counts of a histogram go; the last count has all above."""

_MICROSECONDS = 1_000_000


class Times(Struct, frozen=True):
    """Durations together: how many, their sum in microseconds, and how many up to each bound."""

    count: int
    micros: int
    counts: tuple[int, ...]

    def plus(self, other: "Times") -> "Times":
        """Both together."""
        counts = tuple(map(sum, zip(self.counts, other.counts, strict=True)))
        return Times(self.count + other.count, self.micros + other.micros, counts)

    @property
    def mean(self) -> float | None:
        """Seconds; None without any."""
        return self.micros / self.count / _MICROSECONDS if self.count else None

    def quantile(self, share: float, bounds: Sequence[float]) -> float | None:
        """The seconds that this share of them took at most, about; None without any."""
        if not self.count:
            return None
        left, lower = share * self.count, 0.0
        for count, upper in zip(self.counts, bounds, strict=False):
            if left <= count:
                return lower + (upper - lower) * (left / count if count else 0.0)
            left, lower = left - count, upper
        return lower


class Latency(Struct, frozen=True):
    """How long the requests of an hour took, that since 1970: the gateway's own part, and what
    calls to the upstream took.
    """

    hour: int
    own: Times
    upstream: Times

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return self.own.count

    def plus(self, other: "Latency") -> "Latency":
        """Both together, as of this one's hour."""
        return Latency(self.hour, self.own.plus(other.own), self.upstream.plus(other.upstream))

    def numbers(self) -> list[int]:
        """All of it but the hour, as numbers that may be added up one by one."""
        own, upstream = self.own, self.upstream
        return [own.count, own.micros, *own.counts, upstream.count, upstream.micros,
                *upstream.counts]  # fmt: skip


def latency_of(hour: int, numbers: Sequence[int]) -> Latency:
    """What `Latency.numbers` gave. Raises ValueError where it is of another length."""
    split = 3 + len(OWN_BOUNDS)
    if len(numbers) != split + 3 + len(UPSTREAM_BOUNDS):
        raise ValueError("not as many numbers as a latency has")
    own, upstream = numbers[:split], numbers[split:]
    return Latency(
        hour,
        Times(own[0], own[1], tuple(own[2:])),
        Times(upstream[0], upstream[1], tuple(upstream[2:])),
    )


class Stopwatch:
    """Adds up durations, in seconds, under these bounds."""

    __slots__ = ("_bounds", "count", "counts", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.count = 0
        self.seconds = 0.0
        self.counts = [0] * (len(bounds) + 1)

    def add(self, seconds: float) -> None:
        """Take in one of them."""
        self.count += 1
        self.seconds += seconds
        self.counts[bisect_left(self._bounds, seconds)] += 1

    def times(self) -> Times:
        """All of them so far."""
        return Times(self.count, round(self.seconds * _MICROSECONDS), tuple(self.counts))


# -- what is written together ---------------------------------------------------------------------


class Batch(Struct, frozen=True, kw_only=True):
    """What one gateway has to add to the store. It counts once, however often it is written:
    `writer` never gives two of its batches the same `number`, and the next one has a higher one.

    Where `keep` is set, no more lines than that stay in the store.
    """

    writer: str
    number: int
    at: float
    lines: Sequence[Line] = ()
    errors: Sequence[TeamErrors] = ()
    latency: Latency | None = None
    keep: int | None = None
