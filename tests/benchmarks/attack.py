"""One attack on a gateway, in a process of its own.

python -m tests.benchmarks.attack KIND PORT COUNT KEY

It logs that it has started once the attack is under way, and goes on until it is stopped. KEY is
the key of the team that attacks.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping

from tests.benchmarks.driver import Load, ask_steadily
from tests.benchmarks.processes import serve

SECONDS = 60.0
"""The longest attack: one that nobody stops ends."""

AT_ONCE = 200
"""How many connections are opened at a time."""

DRIP_SECONDS = 1.0
"""The pause between two pieces of a slow request."""

NOISE_CONNECTIONS = 50


async def _hold(port: int, count: int, start: bytes, drip: bytes, *, reads: bool = True) -> None:
    """Open `count` connections, send `start` on each, and go on to send `drip` slowly.

    Raises RuntimeError if the gateway refuses one of them.
    """
    held: list[asyncio.Transport] = []
    while len(held) < count:
        opening = range(min(AT_ONCE, count - len(held)))
        held += await asyncio.gather(*(_open(port, start, reads=reads) for _ in opening))

    async def go_on() -> None:
        while True:
            await asyncio.sleep(DRIP_SECONDS)
            for transport in held:
                if drip and not transport.is_closing():
                    transport.write(drip)

    _keep(go_on())
    await asyncio.sleep(DRIP_SECONDS)
    if lost := sum(transport.is_closing() for transport in held):
        raise RuntimeError(f"the gateway closed {lost} of {count} connections")


async def _open(port: int, start: bytes, *, reads: bool) -> asyncio.Transport:
    loop, peer = asyncio.get_running_loop(), socket.socket()
    peer.setblocking(False)
    if not reads:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    await loop.sock_connect(peer, ("127.0.0.1", port))
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=peer)
    if not reads:
        transport.pause_reading()
    transport.write(start)
    return transport


def _head(key: str, length: int) -> bytes:
    return (
        "POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


async def slow_heads(port: int, count: int, key: str) -> None:
    """Heads that never end."""
    await _hold(port, count, b"POST /v1/images/generations HTTP/1.1\r\nHost: a\r\n", b"X-A: b\r\n")


async def slow_bodies(port: int, count: int, key: str) -> None:
    """Bodies of a valid key that never end."""
    await _hold(port, count, _head(key, 10_000) + b'{"prompt":"', b"x")


async def unread(port: int, count: int, key: str) -> None:
    """Hits of 1.5 MB that nobody reads."""
    body = b'{"prompt":"large held 0 unread","size":"1024x1024"}'
    await _hold(port, count, _head(key, len(body)) + body, b"", reads=False)


async def hits(port: int, count: int, key: str) -> None:
    """So many hits a second."""
    _noise(port, Load(keys=(key,), distinct=1), count)


async def new_requests(port: int, count: int, key: str) -> None:
    """So many requests a second that are refused, because of the key or the team's limits."""
    _noise(port, Load(keys=(key,)), count)


def _noise(port: int, load: Load, rate: int) -> None:
    _keep(ask_steadily(port, load, NOISE_CONNECTIONS, rate, SECONDS))


KINDS: Mapping[str, Callable[[int, int, str], Awaitable[None]]] = {
    each.__name__: each for each in (slow_heads, slow_bodies, unread, hits, new_requests)
}

_tasks: list[asyncio.Future[None]] = []


def _keep(work: Awaitable[object]) -> None:
    async def run() -> None:
        await work

    _tasks.append(asyncio.ensure_future(run()))


async def start(kind: str, port: int, count: int, key: str) -> int:
    """Begin the attack, and return the port."""
    await KINDS[kind](port, count, key)
    return port


if __name__ == "__main__":
    serve(start(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
