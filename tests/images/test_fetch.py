"""Fetching pictures over real sockets, from servers and names that mean no good."""

import asyncio
import gzip
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from structlog.testing import capture_logs

from gateway import __version__
from gateway.core.byte_budget import ByteBudget
from gateway.core.http_client import Allowance
from gateway.images.fetch import GONE, IN_ALL, SIDE_BY_SIDE, STEP_BYTES, Fetcher, FetchFailed
from gateway.telemetry.metrics import Metrics
from gateway.upstream.sandbox.png import draw
from tests.support.steps import until
from tests.support.tls import Issued

HOST = "pictures.test"
SECRET = "sig=CANARY"
LIMIT = 100_000
PICTURE = draw(b"digest" * 8, 8, 8)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: image/png", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join((*lines, "", "")).encode() + body


OK = answer(PICTURE)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Names(AbstractResolver):
    """A name server that a test scripts: each look-up of a name takes its next addresses."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = answers
        self.looked_up: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.looked_up.append(host)
        addresses = self.answers.get(host) or self.answers["others"]
        found = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return [
            ResolveResult(hostname=host, host=each, port=port, family=family, proto=0, flags=0)
            for each in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


class Site:
    """A server of pictures that a test scripts, and a fetcher that finds it under all names."""

    def __init__(self, port: int, fetcher: Fetcher, metrics: Metrics) -> None:
        self.port = port
        self.fetcher = fetcher
        self.metrics = metrics
        self.connections = 0
        self.heads: list[bytes] = []
        self.base_url = "https://upstream.test"

    def url(self, host: str = HOST, scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.port}/a%2Fb.png?{SECRET}%2b"

    async def fetch(
        self, url: str = "", hosts: tuple[str, ...] = (HOST,), max_bytes: int = LIMIT
    ) -> bytes:
        asked = (url or self.url(), self.base_url, hosts, Allowance(max_bytes))
        async with asyncio.timeout(10):
            return await self.fetcher.fetch(*asked, asyncio.Semaphore(1))

    async def failure(self, url: str = "", hosts: tuple[str, ...] = (HOST,)) -> str:
        """The reason of a fetch that fails. Logs and metrics have it, and no part of the URL."""
        with capture_logs() as lines, pytest.raises(FetchFailed) as raised:
            await self.fetch(url, hosts)
        failure = raised.value
        assert failure.__cause__ is failure.__context__ is None
        (line,) = lines
        assert (line["event"], line["reason"]) == ("picture not fetched", failure.reason)
        assert "CANARY" not in f"{lines} {failure!r} {failure.detail}"
        assert self.count(failure.reason) == 1
        return failure.reason

    def count(self, result: str) -> float | None:
        name = "gateway_image_fetches_total"
        return self.metrics.registry.get_sample_value(name, {"result": result})


@pytest.fixture(scope="module")
def issued() -> Issued:
    return Issued(HOST)


@asynccontextmanager
async def site(
    talk: Talk | bytes, issued: Issued, folder: Path, *, secure: bool = True, **settings: Any
) -> AsyncIterator[Site]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        try:
            served.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if isinstance(talk, bytes):
                writer.write(talk)
                await writer.drain()
            else:
                await talk(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()

    context = None
    if secure:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*issued.write(folder))
    listening = [await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)]
    port = listening[0].sockets[0].getsockname()[1]
    # Other addresses of loopback, so that a wrong connection is seen whatever its address.
    for host in ("127.0.0.2", "::1"):
        listening += [await asyncio.start_server(serve, host, port, ssl=context)]
    metrics = Metrics()
    settings = {
        "budget": ByteBudget(10 * LIMIT),
        "resolver": Names(others=[["127.0.0.1"]]),
        "tls": issued.client,
        **settings,
    }
    try:
        async with Fetcher(observer=metrics, **settings) as fetcher:
            served = Site(port, fetcher, metrics)
            yield served
    finally:
        for each in listening:
            each.close()


Sited = Callable[..., Any]


@pytest.fixture
def sited(issued: Issued, tmp_path: Path) -> Sited:
    return partial(site, issued=issued, folder=tmp_path)


async def test_a_picture_of_a_named_host(sited: Sited) -> None:
    async with sited(OK) as site:
        assert await site.fetch() == PICTURE
        assert (site.connections, site.count("fetched")) == (1, 1)


async def test_the_request_carries_nothing_but_the_url(sited: Sited) -> None:
    os.environ["HTTPS_PROXY"] = os.environ["HTTP_PROXY"] = "http://127.0.0.1:1"
    try:
        async with sited(answer(PICTURE, "Set-Cookie: a=b; Path=/")) as site:
            for _ in range(2):  # the second could carry the first one's cookie
                assert await site.fetch(site.url() + "#fragment") == PICTURE
    finally:
        del os.environ["HTTPS_PROXY"], os.environ["HTTP_PROXY"]
    for head in site.heads:
        first, *lines = head.decode().split("\r\n")[:-2]
        assert first == f"GET /a%2Fb.png?{SECRET}%2b HTTP/1.1"
        assert dict(line.split(": ", 1) for line in lines) == {
            "Host": f"{HOST}:{site.port}",
            "Accept": "image/png, image/jpeg, image/webp",
            "Accept-Encoding": "identity",
            "User-Agent": f"image-gateway/{__version__}",
            "Connection": "close",
        }


# -- where a picture may come from -----------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0", "0.0.0.0", "2130706433", "017700000001", "0x7f000001"),
        *("0x7f.1", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        *("[::7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fd00:ec2::254]"),
        *("[fe80::1%25lo]", "localhost", "LocalHost", "10.0.0.1", "169.254.169.254", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "①②⑦.0.0.1", "127。0。0。1"),
    ],
)
async def test_an_address_that_is_not_public_is_not_connected_to(host: str, sited: Sited) -> None:
    async with sited(OK, resolver=None) as site:  # the system knows further spellings
        assert await site.failure(site.url(host), hosts=()) in ("address", "url", "unreachable")
        assert site.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        *(["127.0.0.1"], ["::1"], ["127.0.0.1", "::1"], ["10.0.0.1", "169.254.169.254"]),
        *(["0.0.0.0"], ["::ffff:127.0.0.1"], ["fe80::1%lo"], ["2130706433"], ["localhost"]),
    ],
)
async def test_a_name_with_such_an_address_is_not_connected_to(
    addresses: list[str], sited: Sited
) -> None:
    async with sited(OK, resolver=Names(others=[addresses])) as site:
        for host in (HOST, "a.localhost", f"{HOST}."):
            with pytest.raises(FetchFailed) as raised:
                await site.fetch(site.url(host), hosts=())
            assert raised.value.reason == "address"
        assert site.connections == 0


async def test_a_name_that_resolves_differently_at_the_second_look(sited: Sited) -> None:
    # Here 127.0.0.2 plays a public address, and 127.0.0.1 one that is not.
    names = Names(others=[["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"]])
    async with sited(OK, resolver=names, public=lambda address: address == "127.0.0.2") as site:
        assert await site.fetch(hosts=()) == PICTURE
        assert names.looked_up == [HOST]  # the address that was checked is the one of the picture
        assert await site.failure(hosts=()) == "address"
        assert await site.fetch(hosts=()) == PICTURE
        assert (site.connections, len(names.looked_up)) == (2, 3)


async def test_base_url_itself_may_be_private_and_without_tls(sited: Sited) -> None:
    async with sited(OK, secure=False) as site:
        site.base_url = f"http://127.0.0.1:{site.port}"
        assert await site.fetch(site.url("127.0.0.1", "http"), hosts=()) == PICTURE
        assert await site.failure(site.url("127.0.0.2", "http"), hosts=("127.0.0.2",)) == "url"
        assert await site.failure(site.url("127.0.0.1", "https"), hosts=()) == "address"
        assert site.connections == 1


async def test_a_host_is_named_exactly(sited: Sited) -> None:
    async with sited(OK) as site:
        assert await site.fetch(site.url("Pictures.Test"), hosts=("PICTURES.test",)) == PICTURE
        with pytest.raises(FetchFailed):
            await site.fetch(site.url(), hosts=("test", "*.test", "*", f"{HOST}:{site.port}"))
        assert site.connections == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 P"])
async def test_a_redirect_is_not_followed(status: str, sited: Sited) -> None:
    async with sited(answer(PICTURE, f"Location: https://{HOST}:1/p", status=status)) as site:
        assert await site.failure() == "status"
        assert site.connections == 1


@pytest.mark.parametrize("url", ["", "data:image/png;base64,AAAA", "ftp://host/p"])
async def test_what_is_no_url_to_fetch(url: str, sited: Sited) -> None:
    async with sited(OK) as site:
        assert await site.failure(url or f"https://user:CANARY@{HOST}:{site.port}/p") == "url"
        assert site.connections == 0


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".com", "."])
async def test_a_host_that_is_no_name_fails_only_its_own_picture(host: str, sited: Sited) -> None:
    async with sited(OK, resolver=None) as site:
        assert await site.failure(site.url(host), hosts=()) == "url"


async def test_a_defect_fails_only_its_own_picture(sited: Sited) -> None:
    async with sited(OK, resolver=Names(**{HOST: [["127.0.0.1"]]})) as site:
        urls = [site.url("unforeseen.test"), site.url()]
        fetched = await site.fetcher.fetch_all(urls, site.base_url, [HOST], LIMIT)
        assert fetched == [None, PICTURE]


async def test_a_certificate_is_checked(sited: Sited) -> None:
    async with sited(OK) as site:  # issued for another name
        assert await site.failure(site.url("other.test"), hosts=("other.test",)) == "unreachable"
    strangers = Issued(HOST).client
    async with sited(OK, tls=strangers) as site:
        assert await site.failure() == "unreachable"
        assert site.heads == []


# -- what a server may answer ----------------------------------------------------------------------


HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        *((b"", []), (HTML, []), (SVG, []), (b"GIF89a" + bytes(20), []), (b"\x89PNG", [])),
        *((b" " + PICTURE, []), (b"RIFF\x10\x00\x00\x00WAVEfmt ", [])),
        *((gzip.compress(PICTURE), ["Content-Encoding: gzip"]), (b"%PDF-1.7 ", [])),
    ],
)
async def test_what_does_not_begin_like_a_picture(
    body: bytes, headers: list[str], sited: Sited
) -> None:
    async with sited(answer(body, *headers)) as site:
        assert await site.failure() == "type"


@pytest.mark.parametrize(
    "picture", [PICTURE, b"\xff\xd8\xff\xe0 jpeg", b"RIFF\x04\x00\x00\x00WEBPVP8 "]
)
async def test_what_begins_like_a_picture(picture: bytes, sited: Sited) -> None:
    text = answer(picture).replace(b"image/png", b"text/plain")
    async with sited(text) as site:
        assert await site.fetch() == picture


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (answer(PICTURE + bytes(LIMIT)), "size"),
        (answer(PICTURE, length=10**15), "size"),
        (answer(PICTURE, length=len(PICTURE) + 1), "cut"),
        (CHUNKED + b"8\r\n" + PICTURE[:8], "cut"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE + bytes(LIMIT), "size"),
        (b"", "cut"),
        (b"SSH-2.0-server\r\n", "cut"),
        (answer(b"", status="204 No Content"), "status"),
        (answer(PICTURE, status="404 Not Found"), "status"),
        (answer(PICTURE, status="206 Partial Content"), "status"),
    ],
)
async def test_an_answer_without_a_whole_picture(text: bytes, reason: str, sited: Sited) -> None:
    async with sited(text) as site:
        assert await site.failure() == reason


@pytest.mark.parametrize(
    ("status", "found"), [("404 No", GONE), ("410 Gone", GONE), ("403 No", None), ("500 No", None)]
)
async def test_only_a_server_can_say_that_there_is_no_picture(
    status: str, found: bytes | None, sited: Sited
) -> None:
    async with sited(answer(b"", status=status)) as site:
        with capture_logs() as lines:
            assert await site.fetcher.fetch_all(
                [site.url()], site.base_url, [HOST], LIMIT, "request-1"
            ) == [found]
        assert lines[0]["id"] == "request-1"


async def test_a_body_without_a_length(sited: Sited) -> None:
    async with sited(b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE) as site:
        assert await site.fetch() == PICTURE


@pytest.mark.parametrize("delay", [0.0, 0.02])
@pytest.mark.parametrize(
    "head", [CHUNKED, b"HTTP/1.1 200 OK\r\nX: ", b"", b"HTTP/1.1 100 OK\r\n\r\n"]
)
async def test_an_endless_answer_ends(head: bytes, delay: float, sited: Sited) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        piece = head if head.endswith(b"OK\r\n\r\n") else b"1\r\n\x89\r\n"
        while True:
            writer.write(piece * (1 if delay else 5_000))
            await writer.drain()
            await asyncio.sleep(delay)

    async with sited(talk, seconds=0.3) as site:
        assert await site.failure() in ("timeout", "size", "cut")


async def test_silence_ends(sited: Sited) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK[:-1])
        await reader.read()  # until the client gives up

    async with sited(talk, seconds=0.2) as site:
        assert await site.failure() == "timeout"


# -- several pictures, and the budget --------------------------------------------------------------


class Gallery:
    """A server that answers once `together` requests have arrived, or after a moment."""

    def __init__(self, together: int, body: bytes = PICTURE) -> None:
        self.together = together
        self.body = body
        self.now = self.most = 0

    async def talk(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await until(lambda: self.most >= self.together)
        writer.write(answer(self.body))
        await writer.drain()


def several(site: Site, count: int) -> list[str]:
    return [f"{site.url()}&number={number}" for number in range(count)]


async def test_the_pictures_of_one_answer_are_fetched_side_by_side(sited: Sited) -> None:
    gallery = Gallery(together=3)
    async with sited(gallery.talk) as site:
        first, *others = several(site, 3)
        urls = [first, "http://10.0.0.1/p", *others]
        fetched = await site.fetcher.fetch_all(urls, site.base_url, [HOST], LIMIT)
        assert fetched == [PICTURE, None, PICTURE, PICTURE]
        assert (site.count("fetched"), site.count("url")) == (3, 1)


async def test_the_pictures_of_one_answer_have_one_bound(sited: Sited) -> None:
    async with sited(OK) as site:
        urls, most = several(site, 3), 2 * len(PICTURE)
        fetched = await site.fetcher.fetch_all(urls, site.base_url, [HOST], most)
        assert sorted(map(bool, fetched)) == [False, True, True]
        assert site.count("size") == 1


async def test_a_url_that_stands_for_several_pictures_is_fetched_once(sited: Sited) -> None:
    async with sited(OK) as site:
        urls, most = [site.url()] * 3, 2 * len(PICTURE)
        fetched = await site.fetcher.fetch_all(urls, site.base_url, [HOST], most)
        assert fetched == [PICTURE, PICTURE, None]
        assert site.connections == 1


async def test_few_fetches_run_at_the_same_time(sited: Sited) -> None:
    now = most = 0

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        writer.write(OK)
        await writer.drain()

    async with sited(talk, secure=False) as site:
        site.base_url = f"http://127.0.0.1:{site.port}"

        async def fetched(answer: int) -> Any:
            urls = [f"{site.base_url}/{answer}/{number}" for number in range(SIDE_BY_SIDE + 2)]
            return await site.fetcher.fetch_all(urls, site.base_url, (), LIMIT)

        assert await fetched(0) == [PICTURE] * (SIDE_BY_SIDE + 2)
        assert most == SIDE_BY_SIDE
        answers = await asyncio.gather(*map(fetched, range(IN_ALL // SIDE_BY_SIDE + 2)))
        assert all(all(answer) for answer in answers)
        assert most == IN_ALL


async def test_the_wait_for_a_turn_counts_as_time(sited: Sited) -> None:
    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client gives up

    async with sited(talk, seconds=1.0) as site:
        urls, started = several(site, SIDE_BY_SIDE + 1), asyncio.get_running_loop().time()
        fetched = await site.fetcher.fetch_all(urls, site.base_url, [HOST], LIMIT)
        assert not any(fetched)
        assert asyncio.get_running_loop().time() - started < 1.9
        assert site.count("timeout") == len(urls)


async def test_pictures_wait_for_the_budget(sited: Sited) -> None:
    budget = ByteBudget(2 * len(PICTURE))
    async with sited(OK, budget=budget) as site:
        async with budget.hold(len(PICTURE) + 1):
            waiting = [asyncio.create_task(site.fetch()) for _ in range(5)]
            await until(lambda: site.connections == 5)
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in waiting)
        assert await asyncio.gather(*waiting) == [PICTURE] * 5
        assert budget.free == budget.size


async def test_the_wait_for_the_budget_counts_as_time(sited: Sited) -> None:
    budget = ByteBudget(LIMIT)
    async with sited(OK, budget=budget, seconds=0.2) as site:
        async with budget.hold(LIMIT):
            assert await site.failure() == "timeout"
        assert await site.fetch() == PICTURE


@pytest.mark.parametrize("head", [OK.partition(PICTURE)[0], CHUNKED])
async def test_a_slow_server_holds_little_of_the_budget(head: bytes, sited: Sited) -> None:
    head = head.replace(str(len(PICTURE)).encode(), b"60000000")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await reader.read()  # until the client gives up

    budget = ByteBudget(64_000_000)
    async with sited(talk, budget=budget, seconds=0.5) as site:
        slow = [asyncio.create_task(site.fetch(max_bytes=64_000_000)) for _ in range(5)]
        await until(lambda: budget.free < budget.size)
        await asyncio.sleep(0.1)
        assert budget.free == budget.size - 5 * STEP_BYTES
        failures = await asyncio.gather(*slow, return_exceptions=True)
        assert {type(failure) for failure in failures} == {FetchFailed}
        assert budget.free == budget.size


async def test_large_pictures_finish_although_the_budget_has_room_for_one(sited: Sited) -> None:
    picture = PICTURE + bytes(3 * STEP_BYTES)
    budget = ByteBudget(len(picture))
    for text in (answer(picture), b"HTTP/1.1 200 OK\r\n\r\n" + picture):
        async with sited(text, budget=budget) as site:
            fetches = [site.fetch(max_bytes=len(picture)) for _ in range(4)]
            assert await asyncio.gather(*fetches) == [picture] * 4
            assert budget.free == budget.size


async def test_a_picture_above_the_whole_budget_fails(sited: Sited) -> None:
    budget = ByteBudget(len(PICTURE) - 1)
    async with sited(OK, budget=budget) as site:
        assert await site.failure() == "size"
        assert budget.free == budget.size
