"""Clients that send many requests at once: all are answered, and nobody waits for them."""

import asyncio
import socket
from collections import Counter
from contextlib import AsyncExitStack, suppress

import pytest
from aiohttp import web

from tests.support.raw import request_bytes, wire
from tests.support.serving import serving
from tests.support.steps import until

ANSWER_BYTES = 4_000


async def echo(request: web.BaseRequest) -> web.Response:
    return web.Response(text=request.rel_url.raw_path)


@pytest.mark.parametrize("size", [0, 100, 20_000], ids=["no body", "small", "larger than a read"])
async def test_pipelined_requests_are_answered_in_order(size: int) -> None:
    async def sum_up(request: web.BaseRequest) -> web.Response:
        return web.Response(text=f"{request.rel_url.raw_path} {len(await request.read())}")

    async with serving(sum_up) as url, wire(url) as connection:
        requests = [request_bytes(target=f"/{number}", body=bytes(size)) for number in range(50)]
        sending = asyncio.create_task(connection.send(b"".join(requests)))
        for number in range(50):
            assert (await connection.answer()).body == f"/{number} {size}".encode()
        await sending


async def test_a_port_begins_few_pipelined_requests_in_a_turn_of_the_event_loop() -> None:
    turn, begun = 0, Counter[int]()

    async def count(request: web.BaseRequest) -> web.Response:
        begun[turn] += 1
        return web.Response()

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async with serving(count) as url, AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(wire(url)) for _ in range(30)]
        turns = asyncio.create_task(take_turns())
        for connection in crowd:
            await connection.send(request_bytes() * 20)
        await until(lambda: begun.total() == 30 * 20)
        turns.cancel()
    # Besides the one pipelined request there may be the last one of each connection.
    assert sorted(begun.values())[-31] <= 2


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "in pieces"])
async def test_a_client_that_reads_nothing_has_little_outstanding(in_pieces: bool) -> None:
    handled, request = 0, request_bytes(body=bytes(1_000))

    async def count(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal handled
        handled += 1
        if not in_pieces:
            return web.Response(body=bytes(ANSWER_BYTES))
        # aiohttp does not wait for the client at the end of this one.
        answer = web.StreamResponse()
        answer.content_length = ANSWER_BYTES
        await answer.prepare(request)
        await answer.write(bytes(ANSWER_BYTES))
        return answer

    async with serving(count, unread_seconds=1.0) as url:
        port, loop = int(url.rpartition(":")[2]), asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", port))
            taken = 0
            with suppress(TimeoutError, ConnectionError):
                while taken < 8_000_000:
                    async with asyncio.timeout(0.5):
                        await loop.sock_sendall(client, request)
                    taken += len(request)
            # It can fill the buffers of the kernel, and hardly more.
            assert 10 < handled < 400_000 // ANSWER_BYTES
            assert taken < handled * len(request) + 200_000
            # Nor does it keep the connection.
            with suppress(ConnectionError):
                while True:
                    await asyncio.wait_for(loop.sock_sendall(client, request), 5)


async def test_others_are_served_while_clients_that_read_nothing_are_there() -> None:
    async with serving(echo) as url, AsyncExitStack() as stack:
        for _ in range(50):
            connection = await stack.enter_async_context(wire(url))
            await connection.send(request_bytes(target="/" + "a" * 4_000) * 50)
        for number in range(20):
            async with wire(url) as other:
                await other.send(request_bytes(target=f"/{number}"))
                assert (await other.answer()).body == f"/{number}".encode()
