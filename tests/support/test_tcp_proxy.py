"""The proxy's faults come at their byte, in their direction, and on their connection."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import repeat

import pytest

from tests.support.tcp_proxy import Fault, TcpProxy, tcp_proxy

SAID = bytes(range(100))
SOON = 0.05
RESET = b"reset"


class Echo:
    """A server that sends back what arrives. `ends` has what each ended connection had sent."""

    def __init__(self) -> None:
        self.port = 0
        self.ends: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = b""
        try:
            while piece := await reader.read(65_536):
                heard += piece
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            heard += RESET
        finally:
            writer.close()
        self.ends.put_nowait(heard)


@asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    echo = Echo()
    async with await asyncio.start_server(echo.serve, "127.0.0.1", 0) as server:
        echo.port = server.sockets[0].getsockname()[1]
        yield echo


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing() as echo:
        yield echo


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[TcpProxy]:
    async with tcp_proxy(echo.port) as proxy:
        yield proxy


async def said_back(proxy: TcpProxy, seconds: float = 5.0) -> bytes:
    """What comes back, until as much came as was said, the connection ends, or time is up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    heard = b""
    try:
        for place in range(0, len(SAID), 10):  # faults need not be at the start of a piece
            writer.write(SAID[place : place + 10])
        async with asyncio.timeout(seconds):
            while len(heard) < len(SAID) and (piece := await reader.read(65_536)):
                heard += piece
    except TimeoutError:
        pass
    finally:
        writer.close()
    return heard


async def test_it_passes_everything_on_to_its_ports_in_turn(echo: Echo) -> None:
    async with echoing() as other, tcp_proxy(echo.port, other.port) as proxy:
        for _ in range(4):
            assert await said_back(proxy) == SAID
        for server in (echo, other):
            assert [await server.ends.get() for _ in range(2)] == [SAID, SAID]


@pytest.mark.parametrize("at", [0, 1, 37, 99])
async def test_a_cut_lets_through_what_comes_before_it(
    proxy: TcpProxy, echo: Echo, at: int
) -> None:
    proxy.faults = iter([Fault(kind="cut", at=at), Fault(kind="cut", way="request", at=at)])
    assert await said_back(proxy) == SAID[:at]
    assert (await echo.ends.get()).removesuffix(RESET) == SAID
    assert SAID[:at].startswith(await said_back(proxy))
    assert (await echo.ends.get()).removesuffix(RESET) == SAID[:at]
    assert (await said_back(proxy), await echo.ends.get()) == (SAID, SAID)


async def test_a_reset_reaches_both_sides(proxy: TcpProxy, echo: Echo) -> None:
    proxy.faults = iter([Fault(kind="reset", at=37)])
    with pytest.raises(ConnectionResetError):
        await said_back(proxy)
    assert (await echo.ends.get()).endswith(RESET)


async def test_a_stall_holds_back_what_follows(proxy: TcpProxy, echo: Echo) -> None:
    proxy.faults = iter([Fault(kind="stall", at=37, seconds=SOON), Fault(kind="stall", at=37)])
    started = time.monotonic()
    assert await said_back(proxy) == SAID
    assert time.monotonic() - started >= SOON
    await echo.ends.get()
    assert await said_back(proxy, SOON) == SAID[:37]
    # The client left, and the server is not kept waiting.
    assert (await asyncio.wait_for(echo.ends.get(), 5))[: len(SAID)] == SAID


async def test_slow_bytes_come_one_at_a_time(proxy: TcpProxy) -> None:
    proxy.faults = repeat(Fault(kind="slow", at=35, length=10, seconds=SOON / 10))
    started = time.monotonic()
    assert await said_back(proxy) == SAID
    assert time.monotonic() - started >= SOON


@pytest.mark.parametrize("at", [0, 35, 99])
async def test_corrupt_bytes_are_others(proxy: TcpProxy, echo: Echo, at: int) -> None:
    changed = bytes(
        byte ^ 0xFF if at <= place < at + 10 else byte for place, byte in enumerate(SAID)
    )
    proxy.faults = iter([Fault(kind="corrupt", way="request", at=at, length=10)])
    assert (await said_back(proxy), await echo.ends.get()) == (changed, changed)
    assert await said_back(proxy) == SAID


async def test_a_silent_server_loses_the_connection(proxy: TcpProxy, echo: Echo) -> None:
    proxy.patience = SOON
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await asyncio.wait_for(echo.ends.get(), 5)
