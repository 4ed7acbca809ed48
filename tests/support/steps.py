"""Steps that many tests take: waiting, counting answers, reading metrics, making keys."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from gateway.config.settings import KeySettings, Settings
from gateway.config.store_url import parse_store_url
from gateway.core.model import NO_LIMITS, Limits, Team
from gateway.quota.store import AccountStore
from gateway.server.startup import load_pepper
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import NO_OBSERVER
from gateway.telemetry.quota_gauges import QuotaGauges
from gateway.tenants.directory import Directory
from gateway.upstream.sandbox import SandboxSettings
from tests.support.directory import new_key, put_teams
from tests.support.rig import UPSTREAM_KEY, Books, Client, Got, Rig

USED_UP = (429, "insufficient_quota", "insufficient_quota")
TOO_MUCH_AT_ONCE = (429, "rate_limit_error", "rate_limit_exceeded")
AWAY = (503, "server_error", "store_unavailable")


def drawing(**settings: Any) -> SandboxSettings:
    """A sandbox that draws dots, with these settings."""
    return SandboxSettings(**{"api_key": UPSTREAM_KEY, "picture": "dot", **settings})


async def until(
    done: Callable[[], bool | Awaitable[bool]], seconds: float = 10, every: float = 0.01
) -> None:
    """Wait until a condition holds, and check it `every` so many seconds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            answer = done()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(every)


async def until_asked(rig: Rig, number: int) -> None:
    """Wait until `number` calls have arrived upstream. Raises TimeoutError."""
    await until(lambda: rig.sandbox.counts.asked >= number)


def tally(answers: Iterable[Got]) -> Counter[int | tuple[int, str, str]]:
    """Count answers by kind: 200, or an error's status, type and code."""
    return Counter(200 if got.status == 200 else got.error for got in answers)


def calls(rig: Rig) -> int:
    """How many calls the upstream got."""
    return rig.sandbox.counts.calls


def status(got: Got) -> str:
    """The Cache-Status of an answer, which must be a 200."""
    assert got.status == 200, got.body
    return got.headers["Cache-Status"]


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def gauges_of(teams: Mapping[str, Team], now: float) -> QuotaGauges:
    """The gauges of these teams at this time, without a store to read."""
    return QuotaGauges(
        store=cast(AccountStore, None),
        directory=cast(Directory, SimpleNamespace(teams=teams)),
        settings=Settings,
        metrics=Metrics(),
        observer=NO_OBSERVER,
        wall=lambda: now,
    )


async def samples(rig: Client) -> Samples:
    """Every sample of /metrics, by name and labels."""
    return read_samples((await rig.admin("/metrics")).body.decode())


def read_samples(text: str) -> Samples:
    """The samples of a page of metrics."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def metric(rig: Client, name: str, **labels: str) -> float:
    """The sum of a metric over all series that have these labels."""
    return total(await samples(rig), name, **labels)


def total(found: Samples, name: str, **labels: str) -> float:
    """The sum of a metric over all series that have these labels."""
    wanted = set(labels.items())
    return sum(value for (each, has), value in found.items() if each == name and wanted <= has)


async def key_in(
    folder: Path, team: str = "team", limits: Limits = NO_LIMITS, **policy: Any
) -> str:
    """A new key, created by another process than the gateway whose data is in `folder`.

    The team is created, or replaced, with these limits and policy.
    """
    place = parse_store_url(f"sqlite:{folder / 'gateway.db'}")
    pepper = load_pepper(KeySettings(pepper_file=str(folder / "pepper")), place)
    async with SqliteStore(folder / "gateway.db") as store:
        await put_teams(store.directory, [Team(name=team, limits=limits, **policy)])
        return await new_key(store.directory, pepper, team)


@asynccontextmanager
async def books_in(folder: Path) -> AsyncIterator[Books]:
    """The books of another process than the gateway whose data is in `folder`."""
    async with SqliteStore(folder / "gateway.db") as store:
        yield Books(store)
