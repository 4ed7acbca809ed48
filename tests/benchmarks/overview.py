"""How quickly the overview answers over a long history of many teams, on each store.

The history is written as gateways write it: hourly entries, merged for each key, then tidied. Each
team has two keys; each key buys and hits in some hours of every day.
"""

import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from msgspec import Struct
from redis.asyncio import Redis

from gateway.config.load import read_settings
from gateway.config.settings import Settings
from gateway.core.model import Entry, EntryOutcome
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, utc
from gateway.server.gateway import Gateway
from gateway.server.startup import open_store
from tests.support.redis import running_redis

TARGET_SECONDS = 0.3

ADMIN_TOKEN = "gw-admin-of-the-benchmarks"

PEPPER = "the pepper of the benchmarks"

PRICE = 53_000
"""Micro-dollars for an image."""

AT_ONCE = 2_000
"""Entries written in one go."""

WARM_ROUNDS = 20


_OUTCOMES: tuple[EntryOutcome, ...] = ("bought", "cached")


class Size(Struct, frozen=True, kw_only=True):
    """The size of the history. Each key is busy `hours` a day."""

    images: int
    teams: int
    days: int
    hours: int = 3
    keys: int = 2

    @property
    def rows(self) -> int:
        """The number of entries: for each busy hour of a key one of purchases and one of hits."""
        return self.days * self.teams * self.keys * self.hours * 2


FULL = Size(images=10_000_000, teams=1_000, days=90)
QUICK = Size(images=10_000, teams=20, days=90)


class Answered(Struct, frozen=True, kw_only=True):
    """The times of one store in seconds. `bytes` is its size on disk or in memory."""

    store: str
    size: Size
    filled: float
    bytes: int
    cold: float
    warm: Sequence[float]

    @property
    def usual(self) -> float:
        """The median of the warm ones."""
        return median(self.warm)


async def measure(size: Size) -> AsyncIterator[Answered]:
    """Measure the overview of such a history, on each store in turn."""
    with TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        database = folder / "gateway.db"
        yield await _measure("SQLite", f"sqlite:{database}", size, lambda: _forget_pages(database))
        async with running_redis(folder / "redis") as server:
            yield await _measure("Redis", server.url, size, None)


async def _measure(
    name: str, url: str, size: Size, forget_pages: Callable[[], None] | None
) -> Answered:
    settings = _settings(url)
    started = time.perf_counter()
    taken, first = await _fill(settings, size)
    filled = time.perf_counter() - started
    if forget_pages is not None:
        forget_pages()
    days = (utc(first)[:10], utc(first + (size.days - 1) * DAY_SECONDS)[:10])
    async with _asking(settings, size, days) as ask:
        cold = await ask()
        warm = [await ask() for _ in range(WARM_ROUNDS)]
    return Answered(store=name, size=size, filled=filled, bytes=taken, cold=cold, warm=warm)


def _settings(url: str) -> Settings:
    values = {
        "SERVER_PORT": "0",
        "SERVER_ADMIN_PORT": "0",
        "SERVER_DRAIN_SECONDS": "0",
        "UPSTREAM_BASE_URL": "http://127.0.0.1:9",  # never called
        "UPSTREAM_API_KEY": "sk-upstream-of-the-benchmarks",
        "STORE_URL": url,
        "KEYS_PEPPER": PEPPER,
        "ADMIN_TOKEN": ADMIN_TOKEN,
    }
    environ = {f"GATEWAY_{name}": value for name, value in values.items()}
    return read_settings("", environ, needs_upstream=True)[0]


async def _fill(settings: Settings, size: Size) -> tuple[int, float]:
    """Write the history and tidy it; returns its size in bytes and the start of its first day."""
    now = time.time()
    first = now - now % DAY_SECONDS - size.days * DAY_SECONDS
    store = await open_store(settings, PEPPER.encode())
    try:
        entries = _entries(size, first)
        while batch := list(islice(entries, AT_ONCE)):
            await store.accounts.record(batch)
        while await store.usage.tidy(now, None):
            pass
        return await _bytes(settings), first
    finally:
        await store.close()


def _entries(size: Size, first: float) -> Iterator[Entry]:
    """The history hour by hour. It has exactly so many images."""
    keys = [
        (f"team-{team:04}", f"{team:06}-{key}")
        for team in range(size.teams)
        for key in range(size.keys)
    ]
    written, rows = 0, 0
    for hour in range(size.days * 24):
        at = first + hour * HOUR_SECONDS
        for number, (team, key) in enumerate(keys):
            if (hour + number) % 24 >= size.hours:
                continue
            for outcome in _OUTCOMES:
                rows += 1
                images = size.images * rows // size.rows - written
                written += images
                yield _entry(f"{rows:032x}", at, team, key, outcome, images)


def _entry(id: str, at: float, team: str, key: str, outcome: EntryOutcome, images: int) -> Entry:
    bought = outcome == "bought"
    return Entry(
        id=id,
        at=at,
        team=team,
        key=key,
        model="gpt-image-2",
        size="1024x1024",
        quality="high",
        outcome=outcome,
        requests=images,
        images_bought=images if bought else 0,
        images_cached=0 if bought else images,
        cost=images * PRICE if bought else 0,
        saved=0 if bought else images * PRICE,
    )


async def _bytes(settings: Settings) -> int:
    place = settings.store.place
    if place.kind == "sqlite":
        return os.stat(place.path).st_size
    client = Redis.from_url(settings.store.url)
    try:
        return int((await client.info("memory"))["used_memory"])
    finally:
        await client.aclose()


def _forget_pages(database: Path) -> None:
    """Drop the file from the system's page cache."""
    descriptor = os.open(database, os.O_RDWR)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _asking(
    settings: Settings, size: Size, days: tuple[str, str]
) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Yield a function that requests the overview and returns how long it took."""
    gateway = Gateway(settings)
    await gateway.start()
    try:
        async with aiohttp.ClientSession() as session:
            url = f"{gateway.admin_url}/admin/v1/overview?from={days[0]}&to={days[1]}"
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

            async def ask() -> float:
                started = time.perf_counter()
                async with session.get(url, headers=headers) as response:
                    body = await response.read()
                seconds = time.perf_counter() - started
                _check(json.loads(body), size)
                return seconds

            yield ask
    finally:
        await gateway.stop()


def _check(answer: dict[str, Any], size: Size) -> None:
    """Raise RuntimeError unless the answer covers the whole history."""
    images = answer["now"]["images_bought"] + answer["now"]["images_cached"]
    if images != size.images or len(answer["days"]) != size.days:
        raise RuntimeError(f"the overview shows {images:,} images instead of {size.images:,}")
