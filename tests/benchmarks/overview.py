"""How quickly the overview answers over a long history of many teams, on each store.

The history is written as gateways write it, by entries of an hour that are merged for each key,
and then tidied up as a gateway's upkeep does. Each team has two keys, each of which buys and hits
in some hours of every day.
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
    """How much history there is. `hours` a day each key is busy."""

    images: int
    teams: int
    days: int
    hours: int = 3
    keys: int = 2

    @property
    def rows(self) -> int:
        """Entries: of each busy hour of a key one for what was bought, and one for hits."""
        return self.days * self.teams * self.keys * self.hours * 2


FULL = Size(images=10_000_000, teams=1_000, days=90)
QUICK = Size(images=10_000, teams=20, days=90)


class Answered(Struct, frozen=True, kw_only=True):
    """How one store did, in seconds; `bytes` is what it takes on the disk or in memory."""

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
    """The overview's times over such a history, on each store in turn."""
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
        "UPSTREAM_BASE_URL": "http://127.0.0.1:9",  # nobody is asked
        "UPSTREAM_API_KEY": "sk-upstream-of-the-benchmarks",
        "STORE_URL": url,
        "KEYS_PEPPER": PEPPER,
        "ADMIN_TOKEN": ADMIN_TOKEN,
    }
    environ = {f"GATEWAY_{name}": value for name, value in values.items()}
    return read_settings("", environ, needs_upstream=True)[0]


async def _fill(settings: Settings, size: Size) -> tuple[int, float]:
    """Write the history and tidy it up; the bytes that it takes, and when its first day begins."""
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
    """Have the system forget what it keeps of the file in memory."""
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
    """What asks a gateway for the overview and tells how long the answer took."""
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


def _check(told: dict[str, Any], size: Size) -> None:
    """Raise RuntimeError unless the answer has all that there is."""
    images = told["now"]["images_bought"] + told["now"]["images_cached"]
    if images != size.images or len(told["days"]) != size.days:
        raise RuntimeError(
            f"the overview tells of {images:,} images, and {size.images:,} there are"
        )
