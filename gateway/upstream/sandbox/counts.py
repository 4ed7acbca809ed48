"""Exact counts of what a sandbox received and delivered, to compare with what was recorded."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct, field

REMEMBERED = 10_000
"""Requests that are kept."""


class Received(Struct, frozen=True):
    """A generation request as it arrived. Header names are in lower case; `at` is monotonic."""

    headers: dict[str, str]
    body: bytes
    at: float


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

    def arrived(self, received: Received) -> None:
        """Count a request, valid or not."""
        self.asked += 1
        self.requests.append(received)

    @contextmanager
    def call(self, images: int) -> Iterator[None]:
        """Count a valid request for so many images, in flight until the block ends."""
        self.calls += 1
        self.images_asked += images
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def answered(self, images: int) -> None:
        """Count a response with so many images that went out whole."""
        self.delivered += 1
        self.images_delivered += images

    def numbers(self) -> dict[str, int]:
        """Return all counts by name, without the requests."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "requests"}
