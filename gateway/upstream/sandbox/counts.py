"""What a sandbox was asked and what it delivered, to be compared with what was recorded."""

from collections import deque

from msgspec import Struct, field

REMEMBERED = 10_000


class Received(Struct, frozen=True):
    """A generation request as it arrived. Header names are in lower case; `at` is monotonic."""

    headers: dict[str, str]
    body: bytes
    at: float


class Counts(Struct):
    """Exact counts since the start or the last reset.

    `asked` counts every generation request that arrived, `calls` those that were valid and begun,
    `images_drawn` the images that cost money, whether or not their answer arrived; `delivered`
    and `images_delivered` whole answers given to the socket.
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
