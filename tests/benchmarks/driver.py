"""Loads of numbered requests, and the driver that sends them.

A prompt says what the mock upstream answers, "small" or "large", and how long it waits. The number
in the prompt makes a request new or a repetition. It has a fixed width, so that all requests of a
load have the same length and a driver only inserts the number.

The driver opens all connections before the first request, and can spread requests over time.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Literal, cast

import aiohttp
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


class _Connection(asyncio.Protocol):
    """A connection that sends one request at a time and parses as little as possible."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[bool] | None = None
        self._left = 0
        self._head = b""
        self._fine = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Only a cast: uvloop's transports are no subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(False)

    def data_received(self, data: bytes) -> None:
        if not self._left:
            head, ended, data = (self._head + data).partition(b"\r\n\r\n")
            if not ended:
                self._head = head
                return
            self._head, self._fine = b"", head.startswith(b"HTTP/1.1 200 ")
            self._left = _content_length(head)
        self._left -= len(data)
        if not self._left and self._answered is not None and not self._answered.done():
            self._answered.set_result(self._fine)

    async def ask(self, request: bytes) -> bool:
        """Whether it was answered with a 200."""
        if self._transport.is_closing():
            return False
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered

    def close(self) -> None:
        self._transport.close()


def _content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    lengths = [line.partition(b":")[2] for line in lines if line.startswith(b"content-length:")]
    return int(lengths[0]) if lengths else 0


async def answer_once(port: int, load: Load, connections: int = 32) -> None:
    """Send each request of the load once. Raises RuntimeError if one fails."""
    taken = await _take_turns(port, load, connections, lambda sent: sent < load.priming)
    if taken.failed:
        raise RuntimeError(f"{taken.failed} of {taken.requests} requests failed before the load")


async def keep_asking(port: int, load: Load, connections: int, seconds: float) -> Taken:
    """Send requests for `seconds`, on each connection as soon as it has its answer."""
    ends = perf_counter() + seconds
    return await _take_turns(port, load, connections, lambda _: perf_counter() < ends)


async def ask_steadily(
    port: int, load: Load, connections: int, rate: float, seconds: float
) -> Taken:
    """Send `rate` requests a second, evenly and in turn on these connections."""
    requests, made = _requests(load), await _connect(port, connections)
    began = perf_counter()
    results: list[tuple[bool, float]] = []

    async def turns(first: int, connection: _Connection) -> None:
        for number in range(first, int(rate * seconds), connections):
            await asyncio.sleep(began + number / rate - perf_counter())
            results.append(await _timed(connection, next(requests)))

    await asyncio.gather(*(turns(*each) for each in enumerate(made)))
    return _taken(results, made)


async def ask_together(port: int, load: Load, count: int, spread: float = 0.0) -> Taken:
    """Send `count` requests, evenly over `spread` seconds, on as many connections."""
    requests = _requests(load)
    # In portions: the queue of connections that wait to be accepted is bounded.
    made: list[_Connection] = []
    while len(made) < count:
        made += await _connect(port, min(500, count - len(made)))

    async def ask(connection: _Connection, wait: float) -> tuple[bool, float]:
        await asyncio.sleep(wait)
        return await _timed(connection, next(requests))

    asking = [ask(connection, spread * i / count) for i, connection in enumerate(made)]
    results = await asyncio.gather(*asking)
    return _taken(results, made)


async def _take_turns(
    port: int, load: Load, connections: int, go_on: Callable[[int], bool]
) -> Taken:
    requests, sent = _requests(load), itertools.count()
    results: list[tuple[bool, float]] = []

    async def turns(connection: _Connection) -> None:
        while go_on(next(sent)):
            results.append(await _timed(connection, next(requests)))
            if not results[-1][0]:
                return

    made = await _connect(port, connections)
    await asyncio.gather(*map(turns, made))
    return _taken(results, made)


async def _connect(port: int, count: int) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    making = [loop.create_connection(_Connection, "127.0.0.1", port) for _ in range(count)]
    return [connection for _, connection in await asyncio.gather(*making)]


async def _timed(connection: _Connection, request: bytes) -> tuple[bool, float]:
    started = perf_counter()
    fine = await connection.ask(request)
    return fine, perf_counter() - started


def _requests(load: Load) -> Iterator[bytes]:
    ends = load.ends()
    for index in itertools.count():
        before, after = ends[index % len(ends)]
        yield b"%b%0*d%b" % (before, DIGITS, load.number(index), after)


def _taken(results: list[tuple[bool, float]], connections: list[_Connection]) -> Taken:
    for connection in connections:
        connection.close()
    times = sorted(seconds for fine, seconds in results if fine) or [0.0]
    return Taken(
        requests=len(results),
        failed=sum(not fine for fine, _ in results),
        p50=times[len(times) // 2],
        p99=times[len(times) * 99 // 100],
    )


async def control(url: str, path: str) -> int:
    """The number that the mock upstream returns on this path."""
    async with aiohttp.ClientSession() as session, session.get(url + path) as response:
        return int(await response.text())
