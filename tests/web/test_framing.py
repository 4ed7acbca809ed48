"""Requests that two programs could read differently: each is refused, and its connection closed."""

import pytest
from aiohttp import web

from tests.support.raw import chunked, request_bytes, wire
from tests.support.serving import serving

AB = chunked(b"ab")
NEXT = b"GET /next HTTP/1.1\r\nHost: gateway\r\n\r\n"


def framed(headers: str, body: bytes = AB, version: str = "1.1") -> bytes:
    return request_bytes(headers=headers, body=body, length=None, version=version)


def hosted(host: str) -> bytes:
    return request_bytes().replace(b"Host: gateway", f"Host: {host}".encode("latin-1"))


REFUSED = {
    "a coding before chunked": framed("Transfer-Encoding: gzip, chunked\r\n"),
    "an empty coding before chunked": framed("Transfer-Encoding: , chunked\r\n"),
    "a coding on a line of its own": framed(
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
    ),
    "chunked twice": framed("Transfer-Encoding: chunked, chunked\r\n"),
    "a coding after chunked": framed("Transfer-Encoding: chunked, gzip\r\n"),
    "a parameter": framed("Transfer-Encoding: chunked;q=1\r\n"),
    "identity": framed("Transfer-Encoding: identity\r\n", b""),
    "an empty coding": framed("Transfer-Encoding:\r\n", b""),
    "an empty coding and a length": framed("Transfer-Encoding:\r\nContent-Length: 2\r\n", b"ab"),
    "chunks in HTTP/1.0": framed(
        "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n", version="1.0"
    ),
    "a sign before the length": framed("Content-Length: +2\r\n", b"ab"),
    "a list of lengths": framed("Content-Length: 2, 2\r\n", b"ab"),
    "the same length twice": framed("Content-Length: 2\r\nContent-Length: 2\r\n", b"ab"),
    "a length of thousands of digits": framed(f"Content-Length: {'9' * 5_000}\r\n", b""),
    "a length after thousands of zeros": framed(f"Content-Length: {'0' * 5_000}2\r\n", b"ab"),
    "a length above 64 bits": framed(f"Content-Length: {2**64 + 2}\r\n", b"ab"),
    "a length as a trailer": framed(
        "Transfer-Encoding: chunked\r\n", AB[:-2] + b"Content-Length: 9\r\n\r\n"
    ),
    "HTTP/0.9 without a version": b"GET /v1/models\r\n\r\n",
    "HTTP/0.9": request_bytes(version="0.9"),
    "HTTP/2.0 in text": request_bytes(version="2.0"),
    "an empty host": hosted(""),
    "a host with a user": hosted("user@gateway"),
    "a host with a path": hosted("gateway/path"),
    "a host with a query": hosted("gateway?query"),
    "two hosts in one line": hosted("gateway, other"),
    "a host with a blank": hosted("gate way"),
    "a host outside of ASCII": hosted("gatew\xe4y"),
    "half an address": hosted("[::1"),
    "a port that is no number": hosted("gateway:http"),
    "a port above 65535": hosted("gateway:65536"),
    "a body of CONNECT": request_bytes(method="CONNECT", target="gateway:80", body=NEXT),
    "a fragment": request_bytes(target="/v1/images/generations#part"),
}


async def echo(request: web.BaseRequest) -> web.Response:
    return web.Response(body=await request.read())


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_a_request_that_can_be_read_in_two_ways_ends_its_connection(refused: bytes) -> None:
    async with serving(echo) as url, wire(url) as connection:
        await connection.send(refused + NEXT)
        answer = await connection.answer()
        assert answer.error == (400, "invalid_http")
        assert await connection.rest() == b""


@pytest.mark.parametrize("version", ["0.9", "2.0"])
async def test_the_answer_has_a_version_that_the_gateway_speaks(version: str) -> None:
    async with serving(echo) as url, wire(url) as connection:
        await connection.send(request_bytes(version=version))
        assert (await connection.rest()).startswith(b"HTTP/1.0 400 ")


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.0", "websocket", "tcp", "other"])
@pytest.mark.parametrize("body", [b"", b"a body"], ids=["no body", "body"])
async def test_a_request_with_upgrade_is_the_last_one_of_its_connection(
    upgrade: str, body: bytes
) -> None:
    """Java's client offers h2c. The parser loses the bytes behind it, here half of a request."""
    ahead = f"Connection: Upgrade\r\nUpgrade: {upgrade}\r\n"
    hidden = b"GET /hidden HTTP/1.1\r\nHost: gateway\r\n\r\n"
    async with serving(echo) as url, wire(url) as connection:
        await connection.send(request_bytes(headers=ahead, body=body) + NEXT[:10])
        answer = await connection.answer()
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["connection"] == "close"
        await connection.send(hidden)
        assert await connection.rest() == b""


@pytest.mark.parametrize(
    "accepted",
    [
        framed("Transfer-Encoding: CHUNKED\r\n"),
        framed("Transfer-Encoding: chunked\r\n", b"2;a=b\r\nab\r\n0\r\n\r\n"),
        framed("Content-Length: 2\r\nConnection: keep-alive\r\n", b"ab", version="1.0"),
        *(
            hosted(host).replace(b"Content-Length: 24", b"Content-Length: 2")[:-22]
            for host in ("images_1.example.com", "gateway:8080", "127.0.0.1", "[::1]:65535")
        ),
    ],
)
async def test_what_has_one_meaning_is_read(accepted: bytes) -> None:
    async with serving(echo) as url, wire(url) as connection:
        await connection.send(accepted)
        assert (await connection.answer()).status == 200
