"""A proxy over a real store and a scripted upstream."""

import asyncio
import json
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.cache.memory import MemoryCache
from gateway.config.live import LiveSettings
from gateway.config.settings import KeySettings, Settings, UpstreamSettings
from gateway.config.store_url import parse_store_url
from gateway.core.model import Caller
from gateway.proxy.context import ProxyRequest, ProxyResponse
from gateway.proxy.election import LocalElection
from gateway.proxy.operations import OpenOperations
from gateway.proxy.pictures import Pictures
from gateway.proxy.pipeline import Proxy
from gateway.quota.account import Account, team_account
from gateway.quota.ledger import Ledger
from gateway.server.startup import load_pepper
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.tenants.directory import Directory
from gateway.upstream.port import NO_TRACE, NOTHING_WANTED, Reply, Wanted
from tests.support.faulty_store import FaultyStore
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
        wanted: Wanted = NOTHING_WANTED,
    ) -> Reply:
        return await self.answer(body)


class LatePurchases(Observer):
    """Keeps the purchases that ended after their clients had left."""

    def __init__(self) -> None:
        self.ended: list[tuple[RequestRecord, BaseException | None]] = []

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        self.ended.append((record, failure))


class Bench:
    """A proxy over a real store, and a key for it. The ledger's way to the store has `faults`."""

    def __init__(
        self,
        store: SqliteStore,
        faults: FaultyStore,
        directory: Directory,
        ledger: Ledger,
        key: str,
    ) -> None:
        self.upstream = ScriptedUpstream()
        self.late = LatePurchases()
        self.proxy = Proxy(
            LiveSettings(Settings()),
            directory=directory,
            cache=MemoryCache(2**20, 2**20),
            ledger=ledger,
            upstream=self.upstream,
            election=LocalElection(),
            operations=OpenOperations(ledger, None, gateway="here", wall=time.time),
            pictures=Pictures(time.time),
            observer=self.late,
            wall=time.time,
            spread=random.random,
            new_id=lambda: secrets.token_hex(8),
        )
        self.key = key
        self.store = store
        self.faults = faults
        self._ledger = ledger

    async def generate(
        self,
        prompt: str = "apple",
        *,
        key: str = "",
        control: Sequence[str] = (),
        body_comes: asyncio.Event | None = None,
        origin: str = "",
        name: str = "",
        **fields: str,
    ) -> tuple[ProxyResponse, RequestRecord]:
        record = RequestRecord(id="r", started=time.perf_counter())

        async def read_body(caller: Caller) -> bytes:
            if body_comes is not None:
                await body_comes.wait()
            return json.dumps({"prompt": prompt, **fields}).encode()

        authorization = [f"Bearer {key or self.key}"]
        incoming = ProxyRequest(
            authorization,
            control,
            read_body,
            origin=lambda: origin,
            idempotency_key=[name] if name else [],
        )
        answer = await self.proxy.generate(incoming, record)
        assert isinstance(answer, ProxyResponse)
        return answer, record

    async def account(self) -> Account:
        """The team's account, once all outcomes are written."""
        assert await self._ledger.close(5)
        return (await self.store.accounts.load([team_account("team")])).accounts[0][0]


@asynccontextmanager
async def running_bench(folder: Path) -> AsyncIterator[Bench]:
    key = await key_in(folder)
    keys = KeySettings(pepper_file=str(folder / "pepper"))
    database = folder / "gateway.db"
    async with SqliteStore(database) as store:
        directory = Directory(
            store.directory,
            pepper=load_pepper(keys, parse_store_url(f"sqlite:{database}")),
            wall=time.time,
            monotonic=time.monotonic,
        )
        faults = FaultyStore(store)
        async with directory, Ledger(faults.accounts, spread=random.random) as ledger:
            yield Bench(store, faults, directory, ledger, key)
