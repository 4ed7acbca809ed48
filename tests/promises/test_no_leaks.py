"""Never a leak: secrets and prompts are planted, everything is made to happen, nothing shows.

A real process goes through every outcome, in both log formats at level debug. It is killed and
started again, and its store is damaged. Then all its output is searched for 8 consecutive
characters of anything planted: logs, metrics, answers, the files of its data and their names. The
id of a key (`sk-gw-<id>`) is public; the part after its underscore is secret.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import string
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import aiohttp
import pytest

from gateway.core.key_format import parse
from gateway.core.model import Limits
from gateway.upstream.sandbox import Sandbox, UpstreamFault
from gateway.upstream.sandbox.state import Kind
from tests.support.process import NOTHING, Program, program
from tests.support.raw import PATH, wire
from tests.support.steps import drawing, key_in, until

PLENTY = Limits(images_per_day=1000)
WINDOW = 8
_ALPHABET = string.ascii_letters + string.digits
_RUN = re.compile(rb"[A-Za-z0-9]{8,}")  # text in which a part of a canary can be
KINDS: list[Kind] = [kind for kind in get_args(Kind) if kind != "status"]
STATUSES = (302, 400, 401, 403, 404, 408, 418, 422, 429, 500, 502, 503, 504, 520)


class Canaries:
    """The planted secrets by place: 40 characters, no 8 of which occur together anywhere else."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}
        self._places: dict[str, str] = {}

    def plant(self, where: str, value: str = "") -> str:
        """The canary for this place: a new one unless it is given or was planted before."""
        if where not in self.planted:
            new = "".join(secrets.choice(_ALPHABET) for _ in range(40))
            self.planted[where] = value or new
            self._places |= dict.fromkeys(_parts(self.planted[where]), where)
        return self.planted[where]

    def found_in(self, text: bytes) -> set[str]:
        """The places of the canaries of which a part occurs in `text`."""
        runs = {run.decode() for run in _RUN.findall(text)}
        return {self._places[part] for run in runs for part in _parts(run) if part in self._places}


def _parts(text: str) -> Iterator[str]:
    return (text[at : at + WINDOW] for at in range(len(text) - WINDOW + 1))


class Nest:
    """A gateway process with canaries in all its inputs, and all its answers."""

    def __init__(self, running: Program, upstream: Sandbox, canaries: Canaries) -> None:
        self.running = running
        self.upstream = upstream
        self.canaries = canaries
        self.data = running.folder / "data"
        self.heard: list[bytes] = []
        self.key = self.url = self.admin_url = ""

    async def start(self) -> None:
        await self.running.start("serve")
        self.url, self.admin_url = await self.running.listening()
        self.key = self.key or await self.new_key("team key")

    async def new_key(self, where: str) -> str:
        key = await key_in(self.data, limits=PLENTY)
        self.canaries.plant(where, key.partition("_")[2])
        return key

    def headers(self, **more: str) -> dict[str, str]:
        plant = self.canaries.plant
        return {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "Cookie": f"session={plant('cookie')}",
            "User-Agent": plant("user agent"),
            "X-Forwarded-For": plant("forwarded"),
            "Idempotency-Key": f"{plant('idempotency')} {secrets.token_hex(3)}",
            "OpenAI-Organization": plant("organization"),
            "X-Request-Id": f"<{plant('request id')}>",
            **more,
        }

    def body(self, **more: object) -> dict[str, object]:
        plant = self.canaries.plant
        return {
            "prompt": f"{plant('prompt')} {secrets.token_hex(3)}",
            "user": plant("user"),
            plant("field"): {"inner": [plant("value")]},
            **more,
        }

    async def ask(self, headers: Mapping[str, str] = NOTHING) -> int:
        """Ask for a new image."""
        return await self.post(self.body(), headers)

    async def answers(self, status: int) -> bool:
        """Whether it answers a new request with this status."""
        return await self.ask() == status

    async def post(self, body: object, headers: Mapping[str, str] = NOTHING) -> int:
        content = "data" if isinstance(body, bytes) else "json"
        return await self.request("POST", PATH, headers, **{content: body})

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] = NOTHING, **content: Any
    ) -> int:
        headers, url = self.headers(**headers), self.url + path
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, headers=headers, **content) as response,
        ):
            self.heard += [await response.read(), repr(response.raw_headers).encode()]
            return response.status

    async def send_raw(self, data: bytes) -> None:
        """Send bytes that no client library would send; any answer will do."""
        async with wire(self.url) as connection:
            await connection.send(data)
            with suppress(TimeoutError):
                self.heard.append(await connection.rest(0.5))

    async def metrics(self) -> None:
        async with aiohttp.ClientSession() as session:
            for path in ("/metrics", "/readyz", f"/{self.canaries.plant('admin path')}"):
                async with session.get(self.admin_url + path, headers=self.headers()) as response:
                    self.heard.append(await response.read())

    def written(self) -> Iterator[tuple[str, bytes]]:
        """All its output so far, with the place."""
        yield "output", self.running.out.encode()
        yield "log", self.running.err.encode()
        yield "answers", b"\n".join(self.heard)
        for folder, _, files in os.walk(self.data):
            for name in files:
                yield "file name", name.encode()
                if name not in ("pepper", "demo.key"):
                    yield name, (Path(folder) / name).read_bytes()

    def look(self) -> None:
        """Fail if any part of a canary has come out."""
        for where, text in self.written():
            leaked = self.canaries.found_in(text)
            assert not leaked, f"{leaked} in {where}"


@asynccontextmanager
async def nest(folder: Path, log: str) -> AsyncIterator[Nest]:
    canaries = Canaries()
    upstream_key = f"sk-{canaries.plant('upstream key')}"
    async with (
        Sandbox(drawing(api_key=upstream_key)) as upstream,
        program(
            folder,
            UPSTREAM_BASE_URL=upstream.url,
            UPSTREAM_API_KEY=upstream_key,
            UPSTREAM_CONNECT_SECONDS="0.5",
            UPSTREAM_TIMEOUT_SECONDS="1",
            UPSTREAM_MAX_RESPONSE_BYTES="1000000",
            SERVER_MAX_BODY_BYTES="20000",
            ADMIN_TOKEN=canaries.plant("admin token"),
            LOG_LEVEL="debug",
            LOG_FORMAT=log,
        ) as running,
    ):
        made = Nest(running, upstream, canaries)
        await made.start()
        yield made


# -- everything that can happen -----------------------------------------------------------------


async def answers(nest: Nest) -> None:
    """Purchases, hits, followers, and clients that leave."""
    body = nest.body()
    fresh = {"Cache-Control": f"no-cache, {nest.canaries.plant('cache control')}"}
    assert await nest.post(body) == 200
    assert await nest.post(body) == 200
    assert await nest.post(body, fresh) == 200
    assert await nest.post(nest.body(), {"Cache-Control": "only-if-cached"}) == 504
    nest.upstream.settings.latency = 0.3
    same = nest.body(n=2, quality=nest.canaries.plant("quality"))
    await asyncio.gather(*(nest.post(same) for _ in range(5)))
    for seconds in (0.1, 0.2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(nest.ask(), seconds)
    await asyncio.sleep(0.3)
    nest.upstream.settings.latency = 0
    assert await nest.post(nest.body(), {"Prefer": "respond-async"}) == 202
    place = nest.canaries.plant("operation")
    assert await nest.request("GET", f"/v1/images/generations/{place}") == 404
    assert await nest.request("GET", "/v1/models") == 200


async def upstream_failures(nest: Nest) -> None:
    echo = '{"error":{"message":"no %s for you","type":"t","code":"c"}}'
    for status in STATUSES:
        nest.upstream.fault = UpstreamFault(kind="status", status=status, times=1)
        assert await nest.ask() >= 400
        repeated = echo % f"sk-{nest.canaries.planted['upstream key']}"
        nest.upstream.fault = UpstreamFault(kind="status", status=status, times=1, body=repeated)
        assert await nest.ask() >= 400
    await echoes(nest)
    for kind in KINDS:
        nest.upstream.fault = UpstreamFault(kind=kind, times=1, bytes=2_000_000)
        await nest.ask()
    junk = UpstreamFault(
        kind="status", status=200, times=1, body=f'{{"data":[{{"url":"{"[" * 5000}"}}]}}'
    )
    nest.upstream.fault = junk
    await nest.ask()
    nest.upstream.fault = None


async def echoes(nest: Nest) -> None:
    """The upstream repeats the request in its reason. Only the client may read that."""
    heard = list(nest.heard)
    writers: list[Callable[[str], str]] = [str, json.dumps, quote]
    for status, write in product((400, 403, 418, 429, 500, 504), writers):
        body = nest.body()
        reason = f"{write(json.dumps(body))[-200:]}, {write(str(body['prompt']))}"
        for shape in ({"error": {"message": reason}}, {"detail": reason}, reason):
            said = json.dumps(shape)
            nest.upstream.fault = UpstreamFault(kind="status", status=status, times=1, body=said)
            assert await nest.post(body) >= 400
    nest.heard[:] = heard
    assert "[redacted]" in nest.running.err


async def refusals(nest: Nest) -> None:
    """Requests that are refused before they cost anything."""
    plant = nest.canaries.plant
    for token in (
        plant("unknown token"),
        f"sk-gw-{plant('malformed key')}",
        f"{nest.key}{plant('key with more')}",
        nest.key[:-1],
        f'"{plant("quoted")}"',
        plant("long") * 200,
    ):
        assert await nest.ask({"Authorization": f"Bearer {token}"}) == 401
    assert await nest.ask({"Authorization": f"Basic {plant('basic')}"}) == 401
    for fields in (
        {"prompt": [plant("list")]},
        {"prompt": ""},
        {"size": plant("size")},
        {"model": plant("model")},
        {"n": plant("n")},
        {"stream": plant("stream")},
        {"prompt": plant("much") * 1000},
    ):
        assert await nest.post(nest.body(**fields)) in (400, 413)
    word = plant("broken body").encode()
    for text in (
        word,
        b'{"prompt":"' + word,
        b'{"' + word + b'":1,"' + word + b'":2}',
        b'{"prompt":"' + word + b'\xff"}',
        b'{"prompt":"x","' + word + b'":NaN}',
        b'{"prompt":"' + word + b'\\ud800"}',
        b"[" * 100_000,
    ):
        assert await nest.post(text) in (400, 413)
    assert await nest.ask({"Content-Type": plant("content type")}) == 415
    assert await nest.ask({"Content-Encoding": plant("encoding")}) == 415
    assert await nest.request("GET", f"/v1/{plant('path')}?{plant('query')}") == 404
    assert await nest.request("DELETE", f"{PATH}?{plant('query')}") in (404, 405)
    await key_in(nest.data, limits=Limits(images_per_day=0), sizes=("1024x1024",))
    await until(lambda: nest.answers(429))
    assert await nest.post(nest.body(size="1536x1024")) == 403
    await key_in(nest.data, limits=PLENTY)
    await until(lambda: nest.answers(200))


async def broken_http(nest: Nest) -> None:
    """Requests that aiohttp's parser refuses. By default it would echo and log the raw values."""
    plant = nest.canaries.plant
    head = f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {nest.key}"
    word = plant("raw")
    broken = (
        f"{head}\x00{word}\r\n\r\n",
        f"{head}\rX: {word}\r\n\r\n",
        f"{head}\r\n{word}\r\n\r\n",
        f"{head}\r\nBad Header {word}: x\r\n\r\n",
        f"{head}\r\nX-Long: {word * 1000}\r\n\r\n",
        f"{head}\r\nContent-Length: {word}\r\n\r\n",
        f"{head}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{word}",
        f"{head}\r\nTransfer-Encoding: {word}\r\n\r\n",
        f"{head}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{word}\r\n",
        f"{head}\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{word}",
        f"{word} {PATH} HTTP/1.1\r\n\r\n",
        f"POST {PATH}{word * 500} HTTP/1.1\r\n\r\n",
        f"POST {PATH} {word}/9.9\r\nAuthorization: Bearer {nest.key}\r\n\r\n",
        f"{word}\r\n\r\n",
        f"{head}\r\n{head}\r\n\r\n",
        f"GET http://{word}:x/ HTTP/1.1\r\nHost: {word}\r\nAuthorization: {nest.key}\r\n\r\n",
        f"{head}\r\nExpect: {word}\r\n\r\n",
        f"{head}\r\nUpgrade: {word}\r\nConnection: upgrade\r\n\r\n",
        f"\x16\x03\x01{word}",
    )
    await asyncio.gather(*(nest.send_raw(text.encode("latin-1")) for text in broken))


async def a_broken_store(nest: Nest) -> None:
    """The store's content turns to junk, and its file disappears."""
    database = nest.data / "gateway.db"
    database.rename(database.with_name("elsewhere"))
    assert await nest.ask() == 503
    database.with_name("elsewhere").rename(database)
    await asyncio.sleep(0.5)
    whole = database.read_bytes()
    database.write_bytes(whole[:4096] + secrets.token_bytes(len(whole) - 4096))
    await nest.ask()
    await nest.request("GET", "/v1/models")
    await asyncio.sleep(0.3)


async def a_crash(nest: Nest) -> None:
    """Killed with calls under way, and started again."""
    nest.upstream.settings.latency = 0.5
    calls = nest.upstream.counts.calls
    lost = [asyncio.create_task(nest.ask()) for _ in range(5)]
    await until(lambda: nest.upstream.counts.calls == calls + 5)
    await nest.running.kill()
    await asyncio.gather(*lost, return_exceptions=True)
    nest.upstream.settings.latency = 0
    nest.look()
    await nest.start()
    assert await nest.ask() == 200


async def a_drain(nest: Nest) -> None:
    nest.upstream.settings.latency = 0.5
    calls = nest.upstream.counts.calls
    last = asyncio.create_task(nest.ask())
    await until(lambda: nest.upstream.counts.calls == calls + 1)
    nest.running.send(signal.SIGTERM)
    await asyncio.sleep(0.1)
    assert await nest.ask() == 503
    assert await last == 200
    assert await nest.running.ended() == 0


async def the_command_line(nest: Nest) -> None:
    """Operators paste whole keys in the wrong places."""
    other = await nest.new_key("other key")
    commands = (
        ("keys", "disable", other),
        ("keys", "enable", other),
        ("keys", "revoke", other[:-1]),
        ("keys", "list", "--team", nest.key),
        ("keys", other),
        (other,),
        ("keys", "list", "--format", "json"),
        ("teams", "list"),
        ("usage", "--by", "key", "--format", "json"),
        ("check-config",),
    )
    for words in commands:
        _, out, err = await nest.running.command(*words)
        nest.heard += [out.encode(), err.encode()]


# -- the tests ----------------------------------------------------------------------------------


async def test_nothing_planted_comes_out(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for log in ("json", "console"):
            (tmp_path / log).mkdir()
            group.create_task(everything_happens(tmp_path / log, log))


async def everything_happens(folder: Path, log: str) -> None:
    async with nest(folder, log) as at:
        for happen in (answers, upstream_failures, refusals, broken_http):
            await happen(at)
            await at.metrics()
        if log == "json":  # commands print the same in both formats
            await the_command_line(at)
        assert str(parse(at.key)) in at.running.err
        assert at.running.err.count("request") > 50
        await a_crash(at)
        await a_drain(at)
        at.look()
        await at.start()
        await at.upstream.close()
        assert await at.ask() == 503
        await a_broken_store(at)
        at.look()
        await at.running.kill()
        code, _, err = await at.running.run("serve")
        assert code == 1
        assert not at.canaries.found_in(err.encode())


def test_the_search_finds_any_part() -> None:
    canaries = Canaries()
    value = canaries.plant("here")
    assert canaries.found_in(b"..." + value[5:13].encode()) == {"here"}
    assert canaries.found_in(value[-8:].encode()) == {"here"}
    assert canaries.found_in(value[-7:].encode() + value[:7].encode()) == set()
