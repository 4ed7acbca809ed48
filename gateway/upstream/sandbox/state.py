"""The settings, faults and counts of a sandbox, which may change while it runs.

A prompt never switches a fault on: every prompt is drawn.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

REMEMBERED = 10_000
"""Requests that are kept."""

Answer = Literal["b64_json", "url", "both"]
Picture = Literal["drawn", "dot"]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]

Kind = Literal[
    "status",
    "cut_before_headers",
    "cut_in_body",
    "hang",
    "not_json",
    "no_image",
    "empty_image",
    "fewer",
    "huge",
    "gzip",
    "gzip_bomb",
    "echo_key",
    "set_cookie",
    "slow_body",
]


class SandboxSettings(Struct, kw_only=True, forbid_unknown_fields=True):
    """Settings of a sandbox. A change applies to the calls that begin after it.

    `api_key` None accepts any key, but not a missing one. The picture "dot" is one tiny constant
    image, for load tests. `latency` and `url_ttl` are in seconds.
    """

    api_key: str | None = None
    answer: Answer = "b64_json"
    latency: Seconds = 0.0
    url_ttl: Seconds = 3_600.0
    picture: Picture = "drawn"


class UpstreamFault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault of the next `times` valid requests. If `times` is None, it lasts until it is reset.

    Every kind waits for the latency first. It draws the images, and so costs money, unless its
    response says plainly that it did not. `draws` overrides that.

    - "status": `status` with `body` (default: OpenAI's error, or the page of an edge) and with
      `headers` on top of the usual ones; an empty value removes a header.
    - "cut_before_headers", "cut_in_body": drops the connection. "hang": never answers.
    - "not_json": 200 with a page. "no_image": without data. "empty_image": with a null image.
    - "fewer": `images` images instead of n, which may be more.
    - "huge": 200 with more than `bytes` bytes. "gzip_bomb": inflates to more than `bytes` bytes.
    - "gzip": a compressed body. "slow_body": a body that takes `after` seconds.
    - "echo_key": 400 with the Authorization header in its message.
    - "set_cookie": a cookie, rate limits and hop-by-hop headers.
    """

    kind: Kind
    times: Annotated[int, Meta(ge=1)] | None = None
    status: Annotated[int, Meta(ge=200, le=599)] = 500
    body: str | None = None
    headers: Mapping[str, str] = {}
    images: Annotated[int, Meta(ge=0, le=10_000)] = 0
    bytes: Annotated[int, Meta(ge=0, le=2**36)] = 2**26
    after: Seconds = 1.0
    draws: bool | None = None

    @property
    def costs(self) -> bool:
        """Whether the images are drawn, and so cost money."""
        if self.draws is not None:
            return self.draws
        if self.kind == "status":
            # These come from an edge while the origin may still be drawing.
            return self.status in (408, 502, 504) or 520 <= self.status <= 527
        return self.kind != "echo_key"

    def used_once(self) -> "UpstreamFault | None":
        """Return the fault for the requests after the next one."""
        if self.times is None:
            return self
        return replace(self, times=self.times - 1) if self.times > 1 else None


class Received(Struct):
    """A generation request as it arrived. Header names are in lower case. Times are monotonic.

    Its end is added later: when it was, how many images were drawn, the response's status
    (0: none), and whether images were written to the socket to the last byte.
    """

    headers: dict[str, str]
    body: bytes
    at: float
    ended_at: float | None = None
    images_drawn: int = 0
    status: int = 0
    delivered: bool = False


class Counts(Struct):
    """Counts since the sandbox was created. A restart keeps them.

    - `asked`: generation requests that arrived whole, with a valid key or not.
    - `calls`: valid requests, for `images_asked` images together.
    - `images_drawn`: images that cost money, whether or not a client was left to receive them.
    - `delivered`: responses with images that were written to the socket to their last byte, with
      `images_delivered` images together.
    - `in_flight`: calls that have not ended, with or without a client.
    - `requests`: the last `REMEMBERED` requests.
    """

    asked: int = 0
    images_asked: int = 0
    calls: int = 0
    images_drawn: int = 0
    delivered: int = 0
    images_delivered: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    requests: deque[Received] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def numbers(self) -> dict[str, int]:
        """Return all counts by name, without the requests."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "requests"}


class State:
    """The state of a sandbox. `faults` are used up in turn, then `fault` applies until a reset."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.counts = Counts()
        self.fault: UpstreamFault | None = None
        self.faults: deque[UpstreamFault] = deque()
        self.calls: set[asyncio.Task[Any]] = set()

    def reset_faults(self) -> None:
        """Remove all faults."""
        self.fault = None
        self.faults.clear()

    def next_fault(self) -> UpstreamFault | None:
        """Return the fault for the next request, and use it up once."""
        if not self.faults:
            used = self.fault
            self.fault = used and used.used_once()
            return used
        fault = self.faults.popleft()
        if (rest := fault.used_once()) is not None:
            self.faults.appendleft(rest)
        return fault

    def knows(self, authorization: str) -> bool:
        """Whether this Authorization header has a valid key."""
        scheme, _, key = authorization.partition(" ")
        return scheme.lower() == "bearer" and bool(key) and self.settings.api_key in (None, key)

    @contextmanager
    def call(self, images: int) -> Iterator[None]:
        """Count a valid request for so many images, in flight until the block ends."""
        counts, task = self.counts, asyncio.current_task()
        assert task is not None  # noqa: S101 (a handler runs in a task)
        counts.calls += 1
        counts.images_asked += images
        self.calls.add(task)
        counts.in_flight = len(self.calls)
        counts.peak_in_flight = max(counts.peak_in_flight, counts.in_flight)
        try:
            yield
        finally:
            self.calls.discard(task)
            counts.in_flight = len(self.calls)
