"""How quickly the overview answers over a long history of many teams, on each store.

The history is written as gateways write it: hourly entries, merged for each key, then tidied. Each
team has two keys; each key buys and hits in some hours of every day.
"""

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from msgspec import Struct
from redis.asyncio import Redis

from gateway.config.settings import Settings
from gateway.core.model import Entry, EntryOutcome
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, utc
from gateway.server.gateway import Gateway
from gateway.server.startup import build_store
from gateway.upstream.sandbox import Sandbox
from tests.support.redis import running_redis
from tests.support.rig import Rig, rig_of, settings_for
from tests.support.steps import drawing

TARGET_SECONDS = 0.3

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
        url = f"sqlite:{database}"
        yield await _measure("SQLite", folder, url, size, lambda: _forget_pages(database))
        async with running_redis(folder / "redis") as server:
            yield await _measure("Redis", folder, server.url, size, None)


async def _measure(
    name: str, folder: Path, url: str, size: Size, forget_pages: Callable[[], None] | None
) -> Answered:
    places = {"STORE_URL": url, "KEYS_PEPPER": PEPPER}
    started = time.perf_counter()
    async with Sandbox(drawing()) as never_asked:
        settings = settings_for(folder, never_asked, **places)
        taken, first = await _fill(settings, size)
        filled = time.perf_counter() - started
        if forget_pages is not None:
            forget_pages()
        async with rig_of(Gateway(settings), never_asked) as rig:
            cold, *warm = [await _ask(rig, size, first) for _ in range(1 + WARM_ROUNDS)]
    return Answered(store=name, size=size, filled=filled, bytes=taken, cold=cold, warm=warm)


async def _ask(rig: Rig, size: Size, first: float) -> float:
    """The seconds that the overview takes. Raises RuntimeError unless it covers all of it."""
    last = first + (size.days - 1) * DAY_SECONDS
    started = time.perf_counter()
    got = await rig.ask_admin("GET", f"overview?from={utc(first)[:10]}&to={utc(last)[:10]}")
    seconds = time.perf_counter() - started
    images = got.json["now"]["images_bought"] + got.json["now"]["images_cached"]
    if images != size.images or len(got.json["days"]) != size.days:
        raise RuntimeError(f"the overview shows {images:,} images instead of {size.images:,}")
    return seconds


async def _fill(settings: Settings, size: Size) -> tuple[int, float]:
    """Write the history and tidy it; returns its size in bytes and the start of its first day."""
    now = time.time()
    first = now - now % DAY_SECONDS - size.days * DAY_SECONDS
    async with build_store(settings.store) as store:
        entries = _entries(size, first)
        while batch := list(islice(entries, AT_ONCE)):
            await store.accounts.record(batch)
        while await store.usage.tidy(now, None):
            pass
        return await _bytes(settings), first


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
    kind = ("images_bought", "cost") if outcome == "bought" else ("images_cached", "saved")
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
        **dict(zip(kind, (images, images * PRICE), strict=True)),
    )


async def _bytes(settings: Settings) -> int:
    place = settings.store.place
    if place.kind == "sqlite":
        return os.stat(place.path).st_size
    async with Redis.from_url(settings.store.url) as client:
        return int((await client.info("memory"))["used_memory"])


def _forget_pages(database: Path) -> None:
    """Drop the file from the system's page cache."""
    descriptor = os.open(database, os.O_RDWR)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
