"""The path of a request over hostile parts: defects, upstreams that misbehave, drains that end.

What needs no hostility is proved through HTTP, in the tests of cache, flights, errors and limits.
"""

import asyncio
import json
import random
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from gateway.cache.memory import MemoryCache
from gateway.config.live import LiveSettings
from gateway.config.settings import Settings, UpstreamSettings
from gateway.core import key_format
from gateway.core.errors import UpstreamCut
from gateway.core.model import Key, Team
from gateway.proxy.context import ProxyRequest, ProxyResponse
from gateway.proxy.election import LocalElection
from gateway.proxy.pipeline import Proxy
from gateway.quota.account import Account, team_account
from gateway.quota.ledger import Ledger
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.tenants.directory import Directory
from gateway.upstream.port import NO_TRACE, Reply
from tests.support.directory import put_key, put_teams

PEPPER = b"0123456789abcdef"
WORD = "canary" + secrets.token_urlsafe(24)
ANSWER = b'{"created":1,"data":[{"b64_json":"aGk="}],"size":"1024x1024","quality":"low"}'

Work = Callable[[bytes], Awaitable[Reply]]


class ScriptedUpstream:
    """An upstream that answers with the function of a test."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.bodies: list[bytes] = []

    async def generate(
        self,
        body: bytes,
        request_id: str,
        settings: UpstreamSettings,
        trace: Mapping[str, str] = NO_TRACE,
    ) -> Reply:
        self.bodies.append(body)
        return await self.work(body)


class LatePurchases(Observer):
    """Keeps the purchases that ended after their clients had left."""

    def __init__(self) -> None:
        self.ended: list[tuple[RequestRecord, BaseException | None]] = []

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        self.ended.append((record, failure))


class Bench:
    """A proxy over a real store, and a key to ask it with."""

    def __init__(
        self, proxy: Proxy, store: SqliteStore, ledger: Ledger, key: str, late: LatePurchases
    ) -> None:
        self.proxy = proxy
        self.late = late
        self._store = store
        self._ledger = ledger
        self._key = key

    async def ask(
        self, prompt: str = "apple", *cache_control: str
    ) -> tuple[ProxyResponse, RequestRecord]:
        record = RequestRecord(id="r", started=time.perf_counter())

        async def read_body() -> bytes:
            return json.dumps({"prompt": prompt}).encode()

        incoming = ProxyRequest([f"Bearer {self._key}"], cache_control, read_body)
        return await self.proxy.generate(incoming, record), record

    async def account(self) -> Account:
        assert await self._ledger.close(5)
        return (await self._store.accounts.load([team_account("team")])).accounts[0][0]


@asynccontextmanager
async def bench(folder: Path, work: Work) -> AsyncIterator[Bench]:
    id, key = key_format.mint(secrets.token_bytes)
    async with SqliteStore(folder / "my.db") as store:
        await put_teams(store.directory, [Team(name="team")])
        await put_key(
            store.directory,
            Key(id=id, team="team", name="", digest=key_format.digest(key, PEPPER), created=0),
        )
        directory = Directory(
            store.directory, pepper=PEPPER, wall=time.time, monotonic=time.monotonic
        )
        await directory.start()
        ledger = Ledger(store.accounts, spread=random.random)
        await ledger.start()
        late = LatePurchases()
        proxy = Proxy(
            LiveSettings(Settings()),
            directory=directory,
            cache=MemoryCache(2**20, 2**20),
            ledger=ledger,
            upstream=ScriptedUpstream(work),
            election=LocalElection(),
            observer=late,
            wall=time.time,
            spread=random.random,
            new_id=lambda: secrets.token_hex(8),
        )
        try:
            yield Bench(proxy, store, ledger, key, late)
        finally:
            await ledger.close(5)
            await directory.close()


async def well(body: bytes) -> Reply:
    return Reply(200, {}, ANSWER)


async def test_what_is_sent_is_the_request_with_its_defaults(tmp_path: Path) -> None:
    async with bench(tmp_path, well) as at:
        await at.ask("ä")
        upstream = at.proxy._upstream
        assert isinstance(upstream, ScriptedUpstream)
        assert upstream.bodies == [
            '{"prompt":"ä","model":"gpt-image-2","size":"1024x1024","n":1}'.encode()
        ]


async def test_a_defect_after_the_call_is_charged_as_unknown_and_leaves_no_hold(
    tmp_path: Path,
) -> None:
    async def defective(body: bytes) -> Reply:
        raise ValueError(f"cannot handle {body!r} {WORD}")

    async with bench(tmp_path, defective) as at:
        with pytest.raises(ValueError, match="cannot handle"):
            await at.ask()
        account = await at.account()
        assert not account.holds
        assert account.day.images == 1


async def test_a_defect_is_raised_to_all_who_wait_and_then_forgotten(tmp_path: Path) -> None:
    turns = iter([False, True])

    async def once(body: bytes) -> Reply:
        await asyncio.sleep(0.05)
        if next(turns):
            return Reply(200, {}, ANSWER)
        raise ValueError

    async with bench(tmp_path, once) as at:
        outcomes = await asyncio.gather(*(at.ask() for _ in range(5)), return_exceptions=True)
        assert {type(each) for each in outcomes} == {ValueError}
        answer, record = await at.ask()
        assert answer.body == ANSWER
        assert record.outcome == "miss"


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "Mon, 99 Foo 99999 99:99:99 +9999"},
        {"retry-after": "9" * 5000},
        {"retry-after": "\x00"},
        {"retry-after": " "},
        {"retry-after": "=?utf-8?b?" + "A" * 60},
        {"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"},
    ],
)
async def test_a_refusal_with_odd_headers_is_a_refusal_all_the_same(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async def refuse(body: bytes) -> Reply:
        return Reply(429, headers, b'{"error":{"message":"slow down"}}')

    async with bench(tmp_path, refuse) as at:
        with pytest.raises(Exception, match="refused") as raised:
            await at.ask()
        assert getattr(raised.value, "status", None) == 429
        assert (await at.account()).day.images == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "?" * 1000,
        "https://[::1/?se=x&se",
        "https://x/?se=0001-01-01T00:00:00%2B23:59",
        "https://x/?se=9999-12-31T23:59:59-23:59",
        "https://x/?Expires=" + "9" * 13,
        "https://x/?X-Amz-Date=99991231T235959Z&X-Amz-Expires=" + "9" * 10,
        "\\u0000\\ud83d\\ude00",
    ],
)
async def test_an_odd_url_in_an_answer_breaks_nothing(tmp_path: Path, url: str) -> None:
    body = f'{{"data":[{{"url":"{url}","b64_json":"aGk="}}]}}'.encode()

    async def odd(_: bytes) -> Reply:
        return Reply(200, {}, body)

    async with bench(tmp_path, odd) as at:
        answer, _ = await at.ask()
        assert answer.body == body


# -- drains -------------------------------------------------------------------------------------


async def test_a_drain_that_ends_while_an_outcome_is_written_delivers_it(tmp_path: Path) -> None:
    async with bench(tmp_path, well) as at:
        await at.ask("warm")
        with closing(sqlite3.connect(tmp_path / "my.db", isolation_level=None)) as other:

            async def locking(body: bytes) -> Reply:
                other.execute("BEGIN IMMEDIATE")
                return Reply(200, {}, ANSWER)

            upstream = at.proxy._upstream
            assert isinstance(upstream, ScriptedUpstream)
            upstream.work = locking
            asking = asyncio.create_task(at.ask())
            await asyncio.sleep(0.3)
            at.proxy.draining = True
            await at.proxy.flights.drain(0.1)
            answer, record = await asyncio.wait_for(asking, 0.5)
            assert (answer.body, record.outcome) == (ANSWER, "miss")
            other.execute("ROLLBACK")
        account = await at.account()
        assert (account.day.images, account.holds) == (2, {})


async def test_a_drain_that_ends_during_the_call_is_a_cut(tmp_path: Path) -> None:
    async def forever(body: bytes) -> Reply:
        await asyncio.sleep(3600)
        return Reply(200, {}, ANSWER)

    async with bench(tmp_path, forever) as at:
        asking = asyncio.create_task(at.ask())
        await asyncio.sleep(0.1)
        await at.proxy.flights.drain(0.1)
        with pytest.raises(UpstreamCut):
            await asking
        account = await at.account()
        assert (account.day.images, account.holds) == (1, {})


# -- purchases without their clients ------------------------------------------------------------


async def test_a_purchase_whose_client_left_is_reported_at_its_end(tmp_path: Path) -> None:
    async def slowly(body: bytes) -> Reply:
        await asyncio.sleep(0.2)
        if b"broken" in body:
            raise ValueError
        return Reply(200, {}, ANSWER)

    async with bench(tmp_path, slowly) as at:
        for prompt in ("apple", "broken"):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(at.ask(prompt), 0.1)
        await at.ask("awaited")
        assert (await at.account()).day.images == 3
    (whole, no_failure), (broken, failure) = at.late.ended
    assert (whole.outcome, whole.images, whole.cost) == ("miss", 1, 6_000)
    assert no_failure is None
    assert broken.cost == 211_000
    assert isinstance(failure, ValueError)
