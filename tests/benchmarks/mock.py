"""The cheapest possible upstream: it reads just enough of a request to know its answer.

python -m tests.benchmarks.mock

It answers a generation with 1 KB ("small") or 1.5 MB ("large") of JSON in the contract's shape, at
once or after the delay in the prompt (`tests.benchmarks.driver`). GET /calls returns the number of
generations, GET /held the number that wait until /release.
"""

import asyncio
import re
from collections.abc import Callable
from typing import cast

from tests.benchmarks.processes import serve

SMALL_BYTES = 1_024
LARGE_BYTES = 1_500_000

_WISH = re.compile(rb'"prompt":"(small|large) held (\S+) ')
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


def http_answer(body: bytes) -> bytes:
    """A 200 with this JSON."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def image_answer(size: int) -> bytes:
    """An answer with one image, of about `size` bytes."""
    usage = b'"usage":{"input_tokens":20,"output_tokens":1056,"total_tokens":1076}'
    image = b"iVBORw0KGgo" + b"A" * (size - 150)
    return b'{"created":1760000000,"data":[{"b64_json":"' + image + b'"}],' + usage + b"}"


class Mock:
    """The state of all connections: prepared answers, the count, and the delayed answers."""

    def __init__(self) -> None:
        self._answers = {
            b"small": http_answer(image_answer(SMALL_BYTES)),
            b"large": http_answer(image_answer(LARGE_BYTES)),
        }
        self._calls = 0
        self._held: list[Callable[[], None]] = []

    def generate(self, body: bytes, write: Callable[[bytes], None]) -> None:
        """Answer a generation through `write`, now or later."""
        self._calls += 1
        wish = _WISH.search(body)
        kind, held = (b"small", b"0") if wish is None else wish.groups()
        answer = self._answers[kind]
        if held == b"0":
            write(answer)
        elif held == b"on":
            self._held.append(lambda: write(answer))
        else:
            asyncio.get_running_loop().call_later(float(held), write, answer)

    def control(self, path: bytes) -> bytes:
        """The answer to a GET: a number."""
        if path == b"/release":
            held, self._held = self._held, []
            for let_go in held:
                let_go()
        return http_answer(str(self._calls if path == b"/calls" else len(self._held)).encode())


class _Connection(asyncio.Protocol):
    """One connection: assembles whole requests."""

    def __init__(self, mock: Mock) -> None:
        self._mock = mock
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Only a cast: uvloop's transports are no subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._take():
            pass

    def _take(self) -> bool:
        """Answer the first whole request; returns False if there is none."""
        head, ended, rest = self._data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if not ended or len(rest) < size:
            return False
        self._data = rest[size:]
        if head.startswith(b"GET "):
            self._write(self._mock.control(head.split(b" ", 2)[1]))
        else:
            self._mock.generate(rest[:size], self._write)
        return True

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def start() -> int:
    """Listen on a free port and return it."""
    mock = Mock()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(mock), "127.0.0.1", 0, backlog=4_096)
    return int(server.sockets[0].getsockname()[1])


if __name__ == "__main__":
    serve(start())
