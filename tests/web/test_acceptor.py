"""The limits of a port's connections, and what refused clients get."""

import asyncio
import io
import json
import socket
import ssl
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import openai
import pytest
from aiohttp import web

from gateway.telemetry.observer import ConnectionRefusal, Observer
from gateway.web.acceptor import LINGERING, ConnectionLimits
from tests.support.logs import logging_to
from tests.support.raw import Wire, ask, request_bytes, wire
from tests.support.serving import serving
from tests.support.steps import until
from tests.support.tls import Issued

THING = request_bytes(target="/thing")


async def echo(request: web.BaseRequest) -> web.Response:
    return web.json_response({"found": request.rel_url.raw_path})


class Refusals(Observer):
    """Counts refused connections."""

    def __init__(self) -> None:
        self.count = Counter[str]()

    def connection_refused(self, reason: ConnectionRefusal) -> None:
        self.count[reason] += 1


async def is_served(url: str) -> bool:
    return (await ask(url, THING)).status == 200


async def test_connections_above_the_limit_are_refused_until_one_ends() -> None:
    refusals, logs = Refusals(), io.StringIO()
    with logging_to(logs):
        async with (
            serving(echo, limits=ConnectionLimits(2), observer=refusals) as url,
            AsyncExitStack() as stack,
        ):
            first, second = [await stack.enter_async_context(wire(url)) for _ in range(2)]
            for connection in (first, second):
                await connection.send(THING)
                assert (await connection.answer()).status == 200
            waits = set()
            for _ in range(2 * LINGERING):
                async with wire(url) as third:
                    await third.send(THING)
                    answer = await third.answer()
                    assert answer.error == (503, "overloaded")
                    assert answer.headers["connection"] == "close"
                    assert "x-should-retry" not in answer.headers
                    wait = int(answer.headers["retry-after"])
                    assert int(answer.headers["retry-after-ms"]) == wait * 1000
                    waits.add(wait)
                    assert await third.rest() == b""
            assert min(waits) >= 1
            assert 1 < len(waits) < max(waits) + 1
            await first.send(THING)
            assert (await first.answer()).status == 200
            await first.send(b"nonsense\r\n\r\n")  # which ends the connection
            await first.rest()
            await until(lambda: is_served(url))
    assert refusals.count == {"full": refusals.count["full"]}
    assert refusals.count["full"] >= 2 * LINGERING
    (line,) = [json.loads(text) for text in logs.getvalue().splitlines() if '"warning"' in text]
    assert line["event"] == "connections refused: max_connections is reached"
    assert line["maximum"] == 2


async def test_a_limit_for_each_address_leaves_others_alone() -> None:
    refusals = Refusals()
    limits = ConnectionLimits(100, per_address=2)
    async with serving(echo, limits=limits, observer=refusals) as url, AsyncExitStack() as stack:
        port = int(url.rpartition(":")[2])

        async def come(address: str) -> Wire:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(address, 0)
            )
            stack.callback(writer.close)
            return Wire(reader, writer)

        for address in ("127.0.0.1", "127.0.0.2"):
            served = [await come(address) for _ in range(2)]
            refused = await come(address)
            assert (await refused.answer()).error == (503, "overloaded")
            for connection in served:
                await connection.send(THING)
                assert (await connection.answer()).status == 200
        assert refusals.count == {"address": 2}
        await served[0].send(b"nonsense\r\n\r\n")
        await served[0].rest()

        async def again() -> bool:
            connection = await come("127.0.0.2")
            await connection.send(THING)
            return (await connection.answer()).status == 200

        await until(again)
        await (await come("127.0.0.1")).answer()
    assert refusals.count["address"] >= 3


async def test_over_tls_a_refused_connection_is_closed_before_its_handshake(
    tmp_path: Path,
) -> None:
    issued = Issued()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*issued.write(tmp_path))
    limits = ConnectionLimits(1)
    async with serving(echo, limits=limits, tls=tls, handshake_seconds=0.5) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as silent:  # it begins no handshake
            await asyncio.sleep(0.1)
            async with wire(f"http://127.0.0.1:{port}") as refused:
                assert await refused.rest() == b""
            # Its place is free once the time for its handshake is over.
            silent.settimeout(5)
            with suppress(ConnectionResetError):
                assert await asyncio.to_thread(silent.recv, 1) == b""

        async def is_served_over_tls() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=issued.client)
            except OSError:
                return False
            writer.close()
            return True

        await until(is_served_over_tls)


async def test_the_official_client_waits_and_tries_again() -> None:
    async with serving(echo, limits=ConnectionLimits(1)) as url, wire(url) as holder:
        await holder.send(THING)
        await holder.answer()

        async def end() -> None:
            await asyncio.sleep(0.3)
            await holder.send(b"nonsense\r\n\r\n")

        ending = asyncio.create_task(end())
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            answer = await client.images.with_raw_response.generate(model="m", prompt="p")
        assert answer.retries_taken > 0
        await ending


async def test_a_port_listens_on_all_addresses_of_a_name() -> None:
    async with serving(echo, host="localhost") as url:
        assert (await ask(url.replace("[::1]", "localhost"), THING)).status == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="IPv6 is not available")
async def test_ipv6() -> None:
    async with serving(echo, host="::1", limits=ConnectionLimits(9, 1)) as url:
        port = int(url.rpartition(":")[2])
        assert url == f"http://[::1]:{port}"
        reader, writer = await asyncio.open_connection("::1", port)
        writer.write(THING)
        assert (await Wire(reader, writer).answer()).status == 200
        reader, other = await asyncio.open_connection("::1", port)
        assert (await Wire(reader, other).answer()).status == 503
        writer.close()
        other.close()
