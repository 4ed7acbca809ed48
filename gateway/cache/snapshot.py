"""Keeps the memory cache over a restart: it is written at the stop and put back at the start.

Neither may delay or fail the start or the stop: each has a few seconds, and failures are logged.
Answers expire by the wall clock.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.cache import snapshot_file
from gateway.cache.codec import CachedAnswer
from gateway.cache.memory import MemoryCache
from gateway.config.settings import CacheSettings

log = structlog.get_logger(source="cache")

SECONDS = 5.0
"""Time limit of the reading before the gateway listens, and of the writing before it exits."""


async def keep(
    cache: MemoryCache, settings: CacheSettings, wall: Callable[[], float], seconds: float = SECONDS
) -> None:
    """Write the cache to the disk, if the settings name a place."""
    if not (settings.keep_path and settings.enabled):
        return
    now = wall()
    entries = [CachedAnswer(each.key, now + each.left, each.value) for each in cache.living()]
    try:
        written = await asyncio.to_thread(
            snapshot_file.write, Path(settings.keep_path), entries, seconds
        )
    except OSError as error:
        log.error("cache snapshot not written", path=settings.keep_path, cause=error.strerror)  # noqa: TRY400 - the cause says it all
        return
    log.info(
        "cache snapshot written",
        path=settings.keep_path,
        answers=written,
        left_out=len(entries) - written,
    )


async def put_back(
    cache: MemoryCache, settings: CacheSettings, wall: Callable[[], float], seconds: float = SECONDS
) -> None:
    """Fill the cache from the disk, if the settings name a place."""
    if not (settings.keep_path and settings.enabled):
        return
    reading = await asyncio.to_thread(_read, settings, wall(), seconds)
    if reading is None:
        return
    answers = 0
    for key, expires, bought in reading.kept:
        # A clock that was set back, or a shorter ttl in the settings, must not prolong its life.
        end = min(expires, bought.at + settings.ttl_seconds)
        answers += cache.put_back(key, bought, end - max(wall(), bought.at))
    if reading.damaged or not reading.whole:
        log.warning("cache snapshot read in part", damaged=reading.damaged, whole=reading.whole)
    log.info("cache snapshot read", path=settings.keep_path, answers=answers)


def _read(settings: CacheSettings, now: float, seconds: float) -> snapshot_file.Reading | None:
    cause: str | None
    try:
        return snapshot_file.read(
            Path(settings.keep_path),
            now,
            max_bytes=settings.max_bytes,
            max_entry_bytes=settings.max_entry_bytes,
            seconds=seconds,
        )
    except OSError as error:
        cause = error.strerror
    except snapshot_file.Foreign:
        cause = "it is of another kind, version or owner, or others may write to it"
    log.warning("cache snapshot skipped", path=settings.keep_path, cause=cause)
    return None
