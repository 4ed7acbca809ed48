"""The image store: pictures in a folder or a bucket, each once, under the hash of its bytes.

The purchase path keeps a picture with `keep`; whoever serves a link reads it with `read`. Nothing
here fails a purchase: a picture that cannot be kept is counted, a line is logged once the reason
changes, and `keep` returns None. `read` checks the hash, so damaged bytes are never served.

Everything runs in threads of its own. The event loop's threads also look up names in DNS, and a
disk that hangs must not stop that. Links have further threads: whoever has one may ask as often as
he likes, and purchases must not wait for that.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from gateway.config.live import CurrentSettings
from gateway.core.tasks import Background, Service
from gateway.images.bucket import Bucket
from gateway.images.files import ANSWER, Files
from gateway.images.picture import is_name, name_of
from gateway.images.place import USE_SECONDS, Away, NotKept, Place
from gateway.telemetry.observer import NO_OBSERVER, Observer

log = structlog.get_logger(source="images")

T = TypeVar("T")

TIER = "disk"
"""The name of the files in metrics of the cache."""

SCAN_SECONDS = 300.0
"""Interval of looking for the files of other processes, and for those that are too old."""

CALM_SECONDS = 10.0
"""How long all must go well until a failure counts as over. A nearly full disk takes small files
only, and would fill the log otherwise."""


class ImageStore(Service):
    """The pictures in the folder or the bucket that the settings name. `wall` returns the time.

    `run` runs work in the threads of the store. The methods that end in `_now` block, and are for
    such work. `files` is the folder, None for a bucket.
    """

    def __init__(
        self,
        settings: CurrentSettings,
        *,
        wall: Callable[[], float],
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._settings = settings
        self._wall = wall
        self._observer = observer
        images = settings().images
        self.files = None if images.is_bucket else Files(images.folder)
        self._place: Place = Bucket(images) if self.files is None else self.files
        threads = self._place.threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
        self._links = ThreadPoolExecutor(threads, thread_name_prefix="image links")
        self._background = Background("images")
        self._prepared = False
        self._failure: str | None = None
        self._failed_at = 0.0

    @property
    def enabled(self) -> bool:
        """Whether pictures are kept and served at all."""
        return self._settings().images.enabled

    @property
    def life(self) -> float:
        """Seconds that a file is kept after its last use: no link outlives it."""
        settings = self._settings()
        ttl = settings.images.ttl_seconds
        most = settings.cache.ttl_seconds if ttl is None else ttl
        return max(most, settings.images.link_seconds + USE_SECONDS)

    # -- pictures -------------------------------------------------------------------------------

    async def keep(self, data: bytes) -> str | None:
        """Keep a picture. Returns its name, or None if it is not kept.

        The name is `gateway.images.picture.name_of(data)`. Keeping it again counts as a use.
        """
        return await self.guarded(lambda: self.keep_now(data))

    async def has(self, name: str) -> bool:
        """Whether a picture is there, and stays for as long as a new link to it works.

        Its bytes are not checked. It counts as a use.
        """
        if not (self.enabled and is_name(name)):
            return False
        try:
            return await self.run(lambda: self._place.has(name, self._wall(), self.life))
        except Away:
            return False

    # -- links ----------------------------------------------------------------------------------

    async def size(self, name: str) -> int | None:
        """Return the bytes of a picture, or None if it is gone. It counts as a use. Raises Away."""
        if not (self.enabled and is_name(name)):
            return None
        return await self.run(lambda: self._place.size(name, self._wall(), self.life), self._links)

    async def read(self, name: str, start: int = 0, length: int = -1) -> bytes | None:
        """Return so many bytes of a picture, by default all, or None if it is gone.

        It counts as a use. The hash of all bytes is checked whenever the picture has changed.
        Raises Away.
        """
        if not (self.enabled and is_name(name)):
            return None
        return await self.run(
            lambda: self._place.read(name, start, length, self._wall(), self.life), self._links
        )

    # -- in threads -----------------------------------------------------------------------------

    async def guarded(self, work: Callable[[], T]) -> T | None:
        """Run work that writes. Returns None, and reports why, if it raises NotKept."""
        if not self.enabled:
            return None
        try:
            done = await self.run(work)
        except NotKept as failure:
            self.not_kept(failure)
            return None
        self._went_well()
        return done

    async def run(self, work: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        """Run work in the threads of the store."""
        try:
            return await asyncio.get_running_loop().run_in_executor(pool or self._pool, work)
        finally:
            if self.files is not None:
                evicted = self.files.evicted
                for reason in list(evicted):
                    for _ in range(evicted.pop(reason)):
                        self._observer.cache_eviction(TIER, reason)

    def keep_now(self, data: bytes) -> str:
        """As `keep`. Raises NotKept."""
        name = name_of(data)
        if name is None:
            raise NotKept("no_picture")
        if not self._place.touch(name, self._wall(), self.life):
            self.write_now(name, data)
        return name

    def write_now(self, name: str, data: bytes) -> None:
        """Write any file of the store. Raises NotKept."""
        if not self._prepared:
            self._prepare()
        self._place.write(name, data, self._wall(), self._settings().images.max_bytes)

    # -- running --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Check the place, and read a folder in the background. A failure is only logged."""
        if self.enabled:
            await self.guarded(self._prepare)
        if self.files is not None:
            self._background.spawn(self.scan())
            self._background.every(SCAN_SECONDS, self.scan)

    async def close(self) -> None:
        """Stop. Files that are being written are drafts until they are whole."""
        await self._background.close()
        for pool in (self._pool, self._links):
            pool.shutdown(wait=False, cancel_futures=True)

    async def scan(self) -> None:
        """Learn of the files of other processes, and remove what is too old or too much."""
        files, most = self.files, self._settings().images.max_bytes
        if files is not None:  # a bucket removes pictures itself
            await self.run(lambda: files.scan(self._wall(), self.life, most))

    def _prepare(self) -> None:
        self._place.prepare()
        self._prepared = True

    # -- reports --------------------------------------------------------------------------------

    def not_kept(self, failure: NotKept) -> None:
        """Count a file that was not kept. If the place is to blame, log each new reason."""
        self._observer.picture_not_kept(failure.reason)
        if not failure.cause:
            return
        self._failed_at = asyncio.get_running_loop().time()
        if failure.reason != self._failure:
            self._failure = failure.reason
            log.warning(
                "pictures are not kept",
                place=self._place.shown,
                reason=failure.reason,
                cause=failure.cause,
            )

    def _went_well(self) -> None:
        if self._failure is None:
            return
        if asyncio.get_running_loop().time() - self._failed_at >= CALM_SECONDS:
            self._failure = None
            log.info("pictures are kept again", place=self._place.shown)


def answer_file(fingerprint: str, mark: str) -> str:
    """Return the name of the file of a cached answer. `mark` is that of its seal."""
    return f"{fingerprint}.{mark}.{ANSWER}"
