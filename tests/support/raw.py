"""HTTP by hand, for requests that a client library would never send, or would correct."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from msgspec import json

PATH = "/v1/images/generations"
BODY = b'{"prompt":"a red apple"}'


class RawAnswer(NamedTuple):
    """One answer as it came over the wire, with header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> tuple[int, Any]:
        """Status and code of an error."""
        return self.status, json.decode(self.body)["error"]["code"]


class Wire:
    """A connection. Every wait is bounded, so that a silent server fails the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes. A closed connection is no error."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            pass

    def end(self) -> None:
        """Send no more, but still read."""
        self._writer.write_eof()

    async def answer(self, *, head_only: bool = False, seconds: float = 5.0) -> RawAnswer:
        """The next answer."""
        async with asyncio.timeout(seconds):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")[:-2]
            pairs = (line.partition(":") for line in lines[1:])
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            if headers.get("transfer-encoding") == "chunked" and not head_only:
                body = await self._chunks()
            else:
                length = 0 if head_only else int(headers.get("content-length", "0"))
                body = await self._reader.readexactly(length)
        return RawAnswer(int(lines[0].split()[1]), headers, body)

    async def _chunks(self) -> bytes:
        body = b""
        while length := int(await self._reader.readline(), 16):
            body += await self._reader.readexactly(length)
            await self._reader.readline()
        await self._reader.readline()
        return body

    async def rest(self, seconds: float = 5.0) -> bytes:
        """Everything until the server closes the connection. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    async def is_open(self, seconds: float = 0.1) -> bool:
        """Whether the connection is still open and the server has sent nothing more."""
        try:
            await self.rest(seconds)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """A connection to the server behind `url`."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def request_bytes(
    key: str | None = None,
    *,
    method: str = "POST",
    target: str = PATH,
    version: str = "1.1",
    headers: str = "",
    body: bytes = BODY,
    length: int | None = -1,
) -> bytes:
    """A request. `headers` are whole lines; `length` is what Content-Length says, None for none."""
    lines = [f"{method} {target} HTTP/{version}", "Host: gateway", "Content-Type: application/json"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    return ("\r\n".join(lines) + "\r\n" + headers + "\r\n").encode("latin-1") + body


def chunked(*parts: bytes) -> bytes:
    """The parts as a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def with_trailer(trailer: bytes, key: str | None = None) -> bytes:
    """A chunked request with this line after its body."""
    head = request_bytes(key, headers="Transfer-Encoding: chunked\r\n", body=b"", length=None)
    return head + chunked(BODY).removesuffix(b"\r\n") + trailer + b"\r\n\r\n"


async def ask(url: str, request: bytes) -> RawAnswer:
    """The answer to one request on a connection of its own."""
    async with wire(url) as connection:
        await connection.send(request)
        return await connection.answer(head_only=request.startswith(b"HEAD"))


async def refuses(url: str) -> bool:
    """Whether the port of a URL refuses connections."""
    host, port = url.removeprefix("http://").split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    writer.close()
    return False
