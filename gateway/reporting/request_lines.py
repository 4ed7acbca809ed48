"""The parts of the request history: the line, the error and the durations of each request.

The history keeps a limited number of lines. So that no kind of request pushes out the others,
each line belongs to a ring with a size of its own: purchases and failures, free answers, and
requests without a known key. Requests that come too often share one line with a count.

No prompt and no key is in here: only ids, names that an operator chose, numbers, words from closed
sets, and the upstream's reasons without the texts of requests.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from gateway.core.key_format import KeyId
from gateway.core.listing import Shown
from gateway.core.model import RefusedBy
from gateway.core.money import MicroDollars
from gateway.core.periods import Duration, Timestamp, utc

READS = frozenset({"files", "models", "polled", "preflight", "quota", "usage"})
"""Outcomes of requests for information, and of preflights. The history does not keep them."""

FREE = frozenset({"hit", "collapsed"})
"""Outcomes of answers that cost nothing."""

SUCCESSES = FREE | READS | {"accepted", "miss"}
"""All other outcomes are errors."""

OtherRoute = Literal["files", "generations", "models", "quota", "usage", "unknown"]
"""Requests for anything but a generation. `files` are pictures by their links,
and `generations` are polls for an operation."""

Ring = Literal["notable", "given", "strangers"]
RINGS: tuple[Ring, ...] = ("notable", "given", "strangers")
"""Purchases and failures, free answers, and requests without a known key."""

PLACE = r"\A[0-9]{13}[0-9a-f]{16}\Z"
"""The format of a line's place."""

LINE_DAYS = 7
ERROR_DAYS = 90
LATENCY_DAYS = 400
"""Retention in days."""

SHOWN_DIGITS = 16
"""Digits of a fingerprint that the history keeps: enough to tell requests apart."""


def time_of(place: str) -> float:
    """Return when a request ended, to the millisecond, in seconds since the epoch."""
    return int(place[:13]) / 1000


Place = Annotated[str, Shown(str, lambda place: utc(time_of(place)), "at")]
"""Sorts lines by time and is unique. Its public form is the time alone."""


class RequestLine(Struct, frozen=True, kw_only=True, array_like=True):
    """A request that has ended, or several alike of one second, counted by `requests`.

    Of several, durations are the mean, amounts are the sum, and id and time are those of the last
    one. `own` is the time spent in the gateway itself, `upstream` the time of the upstream call.
    Null values are unknown. `route` is null for a request for images. `upstream_status` and
    `reason` are the upstream's answer to a purchase that failed. The `reason` of a repeat that was
    refused has the id of the first attempt. `refused_by` is the limit that refused the request.
    Several together have none of the three.
    """

    place: Place
    id: str
    team: str | None
    key: KeyId | None
    model: str | None
    size: str | None
    quality: str | None
    outcome: str
    status: int
    code: str | None
    requests: int
    images: int
    cost: MicroDollars
    saved: MicroDollars
    total: Duration
    own: Duration
    upstream: Duration | None
    fingerprint: str | None
    # Gateways of other versions share the history: new fields go to the end, with a default.
    route: Annotated[str, Shown(OtherRoute, None)] | None = None
    upstream_status: int | None = None
    reason: str | None = None
    refused_by: RefusedBy | None = None

    @property
    def ring(self) -> Ring:
        """The ring that the line belongs to."""
        if self.team is None:
            return "strangers"
        return "given" if self.outcome in FREE else "notable"


def make_place(at: float, writer: str, number: int) -> str:
    """Return the place of the line with this number from a writer (8 hexadecimal digits)."""
    return f"{place_prefix(at)}{writer}{number % 2**32:08x}"


def place_prefix(at: float) -> str:
    """Return the text that all places of a moment begin with. It sorts before all of them."""
    return f"{max(0, int(at * 1000)):013d}"


def ring_sizes(keep: int) -> Mapping[Ring, int]:
    """Return how many lines each ring keeps if the history keeps `keep` lines."""
    free, unknown = keep // 2, keep // 10
    return {"notable": keep - free - unknown, "given": free, "strangers": unknown}


class LineFilter(Struct, frozen=True, kw_only=True):
    """Selects the lines that match every field set here.

    `errors` leaves out successes. `since` (of `place_prefix`) leaves out lines that ended before.
    """

    team: str | None = None
    key: str | None = None
    outcome: str | None = None
    id: str | None = None
    errors: bool = False
    since: str = ""

    def matches(self, line: RequestLine) -> bool:
        """Whether the filter selects the line."""
        return (
            self.team in (None, line.team)
            and self.key in (None, line.key)
            and self.outcome in (None, line.outcome)
            and self.id in (None, line.id)
            and not (self.errors and line.outcome in SUCCESSES)
            and self.since <= line.place
        )


# -- errors -------------------------------------------------------------------------------------


class ErrorKind(Struct, frozen=True, kw_only=True):
    """How often one kind of error occurred, with the time and id of the last request it hit."""

    outcome: str
    code: str | None
    status: int
    requests: int
    last_at: Timestamp
    last_id: str

    def plus(self, other: "ErrorKind") -> "ErrorKind":
        """Return both together. Of two at the same time, the other one is the last."""
        last = other if other.last_at >= self.last_at else self
        return replace(last, requests=self.requests + other.requests)


class TeamErrors(Struct, frozen=True):
    """Errors of one kind in one team. The team is None for requests without a known key."""

    team: str | None
    kind: ErrorKind


class ErrorSums(dict[tuple[str, str | None, int], ErrorKind]):
    """Errors added up by kind."""

    def add(self, kind: ErrorKind) -> None:
        """Add errors of one kind."""
        name = (kind.outcome, kind.code, kind.status)
        self[name] = kind.plus(self[name]) if name in self else kind

    def kinds(self) -> list[ErrorKind]:
        """Return the kinds, the most frequent first."""
        return sorted(self.values(), key=lambda kind: (-kind.requests, kind.outcome, kind.last_id))


# -- latency ------------------------------------------------------------------------------------

OWN_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)
UPSTREAM_BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0)
"""Upper bounds of the histograms' buckets in seconds. A last bucket counts everything above."""


class Histogram(Struct):
    """A histogram of durations: their number, their sum in microseconds, a count per bucket."""

    bounds: tuple[float, ...]
    count: int = 0
    micros: int = 0
    counts: list[int] = []

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def add(self, seconds: float) -> None:
        """Add one duration."""
        self.count += 1
        self.micros += round(seconds * 1_000_000)
        self.counts[bisect_left(self.bounds, seconds)] += 1

    def plus(self, other: "Histogram") -> "Histogram":
        """Return both together."""
        counts = list(map(sum, zip(self.counts, other.counts, strict=True)))
        count, micros = self.count + other.count, self.micros + other.micros
        return Histogram(self.bounds, count, micros, counts)

    @property
    def mean_ms(self) -> float | None:
        """The mean in milliseconds, or None without durations."""
        return round(self.micros / self.count / 1_000, 3) if self.count else None


class HourLatency(Struct):
    """Latency in one hour (counted since 1970): of the gateway itself and of upstream calls."""

    hour: int = 0
    own: Histogram = field(default_factory=lambda: Histogram(OWN_BOUNDS))
    upstream: Histogram = field(default_factory=lambda: Histogram(UPSTREAM_BOUNDS))

    def plus(self, other: "HourLatency") -> "HourLatency":
        """Return both together, under this one's hour."""
        return HourLatency(self.hour, self.own.plus(other.own), self.upstream.plus(other.upstream))

    def numbers(self) -> str:
        """Return everything but the hour as numbers that a store can add up one by one."""
        parts = (self.own, self.upstream)
        numbers = [number for part in parts for number in (part.count, part.micros, *part.counts)]
        return " ".join(map(str, numbers))


def latency_of(hour: int, text: str | bytes) -> HourLatency:
    """Return the latency with these `numbers`. Raises ValueError if their count is wrong."""
    numbers = [int(number) for number in text.split()]
    split = 3 + len(OWN_BOUNDS)
    if len(numbers) != split + 3 + len(UPSTREAM_BOUNDS):
        raise ValueError("wrong count of numbers for a latency")
    own = Histogram(OWN_BOUNDS, numbers[0], numbers[1], numbers[2:split])
    count, micros, *counts = numbers[split:]
    return HourLatency(hour, own, Histogram(UPSTREAM_BOUNDS, count, micros, counts))


# -- writing ------------------------------------------------------------------------------------


class HistoryBatch(Struct, frozen=True, kw_only=True):
    """The additions of one gateway to the history in one write.

    A batch may be written again after a lost reply, and then counts once: each `writer` numbers
    its batches upward. If `keep` is set, the store trims the lines to that many.
    """

    writer: str
    number: int
    at: float
    lines: Sequence[RequestLine] = ()
    errors: Sequence[TeamErrors] = ()
    latency: HourLatency | None = None
    keep: int | None = None
