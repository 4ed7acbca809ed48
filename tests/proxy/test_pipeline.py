"""The path of a request over hostile parts: defects, upstreams that misbehave, drains that end.

All else is tested through HTTP: cache, flights, errors and limits.
"""

import asyncio
import json
import random
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cache.memory import MemoryCache
from gateway.config.live import LiveSettings
from gateway.config.settings import KeySettings, Settings, UpstreamSettings
from gateway.config.store_url import parse_store_url
from gateway.core.errors import UpstreamCut
from gateway.proxy.context import ProxyRequest, ProxyResponse
from gateway.proxy.election import LocalElection
from gateway.proxy.pipeline import Proxy
from gateway.quota.account import Account, team_account
from gateway.quota.ledger import Ledger
from gateway.server.startup import load_pepper
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.tenants.directory import Directory
from gateway.upstream.port import NO_TRACE, Reply
from tests.support.steps import key_in

ANSWER = b'{"created":1,"data":[{"b64_json":"aGk="}],"size":"1024x1024","quality":"low"}'

Answer = Callable[[bytes], Awaitable[Reply]]


class ScriptedUpstream:
    """An upstream whose answers a test computes."""

    answer: Answer

    async def generate(
        self,
        body: bytes,
        request_id: str,
        settings: UpstreamSettings,
        trace: Mapping[str, str] = NO_TRACE,
    ) -> Reply:
        return await self.answer(body)


class LatePurchases(Observer):
    """Keeps the purchases that ended after their clients had left."""

    def __init__(self) -> None:
        self.ended: list[tuple[RequestRecord, BaseException | None]] = []

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        self.ended.append((record, failure))


class Bench:
    """A proxy over a real store, and a key for it."""

    def __init__(self, store: SqliteStore, directory: Directory, ledger: Ledger, key: str) -> None:
        self.upstream = ScriptedUpstream()
        self.late = LatePurchases()
        self.proxy = Proxy(
            LiveSettings(Settings()),
            directory=directory,
            cache=MemoryCache(2**20, 2**20),
            ledger=ledger,
            upstream=self.upstream,
            election=LocalElection(),
            observer=self.late,
            wall=time.time,
            spread=random.random,
            new_id=lambda: secrets.token_hex(8),
        )
        self._store = store
        self._ledger = ledger
        self._key = key

    async def generate(self, prompt: str = "apple") -> tuple[ProxyResponse, RequestRecord]:
        record = RequestRecord(id="r", started=time.perf_counter())

        async def read_body() -> bytes:
            return json.dumps({"prompt": prompt}).encode()

        incoming = ProxyRequest([f"Bearer {self._key}"], (), read_body)
        return await self.proxy.generate(incoming, record), record

    async def account(self) -> Account:
        """The team's account, once all outcomes are written."""
        assert await self._ledger.close(5)
        return (await self._store.accounts.load([team_account("team")])).accounts[0][0]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    key = await key_in(tmp_path)
    keys = KeySettings(pepper_file=str(tmp_path / "pepper"))
    database = tmp_path / "gateway.db"
    async with SqliteStore(database) as store:
        directory = Directory(
            store.directory,
            pepper=load_pepper(keys, parse_store_url(f"sqlite:{database}")),
            wall=time.time,
            monotonic=time.monotonic,
        )
        async with directory, Ledger(store.accounts, spread=random.random) as ledger:
            yield Bench(store, directory, ledger, key)


async def test_a_defect_after_the_call_is_charged_as_unknown_and_raised_to_all_who_wait(
    bench: Bench,
) -> None:
    async def fail(body: bytes) -> Reply:
        await asyncio.sleep(0.05)
        raise ZeroDivisionError

    async def succeed(body: bytes) -> Reply:
        return Reply(200, {}, ANSWER)

    bench.upstream.answer = fail
    ends = await asyncio.gather(*(bench.generate() for _ in range(5)), return_exceptions=True)
    assert {type(end) for end in ends} == {ZeroDivisionError}
    bench.upstream.answer = succeed
    response, record = await bench.generate()
    assert (response.body, record.outcome) == (ANSWER, "miss")
    account = await bench.account()
    assert (account.day.images, account.holds) == (2, {})


# -- drains -------------------------------------------------------------------------------------


async def test_a_drain_that_ends_while_an_outcome_is_written_delivers_it(
    bench: Bench, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:

        async def lock(body: bytes) -> Reply:
            other.execute("BEGIN IMMEDIATE")
            return Reply(200, {}, ANSWER)

        bench.upstream.answer = lock
        generating = asyncio.create_task(bench.generate())
        await asyncio.sleep(0.3)
        bench.proxy.draining = True
        await bench.proxy.flights.drain(0.1)
        response, record = await asyncio.wait_for(generating, 0.5)
        assert (response.body, record.outcome) == (ANSWER, "miss")
        other.execute("ROLLBACK")
    account = await bench.account()
    assert (account.day.images, account.holds) == (1, {})


async def test_a_drain_that_ends_during_the_call_is_a_cut(bench: Bench) -> None:
    async def hang(body: bytes) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    bench.upstream.answer = hang
    generating = asyncio.create_task(bench.generate())
    await asyncio.sleep(0.1)
    await bench.proxy.flights.drain(0.1)
    with pytest.raises(UpstreamCut):
        await generating
    account = await bench.account()
    assert (account.day.images, account.holds) == (1, {})


# -- purchases without their clients ------------------------------------------------------------


async def test_a_purchase_whose_client_left_is_reported_at_its_end(bench: Bench) -> None:
    async def answer_slowly(body: bytes) -> Reply:
        await asyncio.sleep(0.2)
        if b"broken" in body:
            raise ValueError
        return Reply(200, {}, ANSWER)

    bench.upstream.answer = answer_slowly
    for prompt in ("apple", "broken"):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bench.generate(prompt), 0.1)
    await bench.generate("awaited")
    assert (await bench.account()).day.images == 3
    (whole, no_failure), (broken, failure) = bench.late.ended
    assert (whole.outcome, whole.images, whole.cost) == ("miss", 1, 6_000)
    assert no_failure is None
    assert broken.cost == 211_000
    assert isinstance(failure, ValueError)
