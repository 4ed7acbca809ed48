"""A load: numbered requests, as the bytes that go over the wire.

A prompt says what the mock upstream answers, "small" or "large", and how long it waits. The number
in the prompt makes a request new or a repetition. It has a fixed width, so that all requests of a
load have the same length and a driver only inserts the number.
"""

from typing import Literal

from msgspec import Struct

DIGITS = 12

Answer = Literal["small", "large"]


class Load(Struct, frozen=True, kw_only=True):
    """Requests with these keys in turn.

    `distinct` numbers repeat; with 0 each request is new. `held` is how many seconds the upstream
    delays its answer, or "on": until /release.
    """

    keys: tuple[str, ...]
    answer: Answer = "small"
    held: str = "0"
    first: int = 0
    distinct: int = 0
    path: str = "/v1/images/generations"

    @property
    def priming(self) -> int:
        """How many requests send everything once, if numbers repeat."""
        return max(self.distinct, 1) * len(self.keys)

    def ends(self) -> list[tuple[bytes, bytes]]:
        """For each key, the bytes before the number and after it."""
        before = f'{{"model":"gpt-image-2","prompt":"{self.answer} held {self.held} '
        after = ' a red apple on a white table, photorealistic","size":"1024x1024","n":1}'
        length = len(before) + DIGITS + len(after)
        return [
            (f"{self._head(key, length)}{before}".encode(), after.encode()) for key in self.keys
        ]

    def number(self, index: int) -> int:
        """The number of the request at this place."""
        return self.first + (index // len(self.keys) % self.distinct if self.distinct else index)

    def _head(self, key: str, length: int) -> str:
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )


class Taken(Struct, frozen=True, kw_only=True):
    """The results of a load. Times in seconds; `failed` are requests without a 200."""

    requests: int
    failed: int
    p50: float
    p99: float
