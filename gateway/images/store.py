"""The image store: pictures on a disk, each once, under the hash of its bytes.

The purchase path keeps a picture with `keep`; whoever serves a link reads it with `read`. Nothing
here fails a request: a picture that cannot be kept is counted, a line is logged once the reason
changes, and `keep` returns None. `read` checks the hash, so damaged bytes are never served.

Everything runs in threads of its own. The event loop's threads also look up names in DNS, and a
disk that hangs must not stop that. Links have further threads: whoever has one may ask as often as
he likes, and purchases must not wait for that.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import file_digest
from io import BufferedReader
from os import stat_result
from typing import TypeVar

import structlog

from gateway.config.live import CurrentSettings
from gateway.core.tasks import Background, Service
from gateway.images.files import ANSWER, TOUCH_SECONDS, Files, NotKept
from gateway.images.picture import HEAD_BYTES, digest_of, is_name, kind_of, name_of
from gateway.telemetry.observer import NO_OBSERVER, Observer

log = structlog.get_logger(source="images")

T = TypeVar("T")

TIER = "disk"
"""The name of the files in metrics of the cache."""

THREADS = 4
LINK_THREADS = 4
"""The most pictures that are hashed at once for links."""

MOST_CHECKED = 10_000
"""How many pictures it remembers to have checked."""

SCAN_SECONDS = 300.0
"""Interval of looking for the files of other processes, and for those that are too old."""

CALM_SECONDS = 10.0
"""How long all must go well until a failure counts as over. A nearly full disk takes small files
only, and would fill the log otherwise."""

MOST_PICTURE_BYTES = 256 * 1024 * 1024
"""A longer file is not read. No answer has such a picture."""


class ImageStore(Service):
    """The pictures in the folder that the settings name. `wall` returns the time.

    `run` runs work in the threads of the store. The methods that end in `_now` block, and are for
    such work.
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
        self.files = Files(settings().images.folder)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="images")
        self._links = ThreadPoolExecutor(LINK_THREADS, thread_name_prefix="image links")
        self._checked = OrderedDict[str, tuple[int, int, int]]()
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
        return max(most, settings.images.link_seconds + TOUCH_SECONDS)

    # -- pictures -------------------------------------------------------------------------------

    async def keep(self, data: bytes) -> str | None:
        """Keep a picture. Returns its name, or None if it is not kept.

        The name is `gateway.images.picture.name_of(data)`. Keeping it again counts as a use.
        """
        return await self.guarded(lambda: self.keep_now(data))

    async def has(self, name: str) -> bool:
        """Whether a picture is there. Its bytes are not checked. It counts as a use."""
        if not (self.enabled and is_name(name)):
            return False
        return await self.run(partial(self._size, name)) is not None

    # -- links ----------------------------------------------------------------------------------

    async def size(self, name: str) -> int | None:
        """As `has`. Returns the bytes of the picture, or None if it is gone."""
        if not (self.enabled and is_name(name)):
            return None
        return await self.run(partial(self._size, name), self._links)

    async def read(self, name: str, start: int = 0, length: int = -1) -> bytes | None:
        """Return so many bytes of a picture, by default all, or None if it is gone.

        It counts as a use. The hash of all bytes is checked whenever the file has changed.
        """
        if not (self.enabled and is_name(name)):
            return None
        return await self.run(partial(self._part, name, start, length), self._links)

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
            evicted = self.files.evicted
            for reason in list(evicted):
                for _ in range(evicted.pop(reason)):
                    self._observer.cache_eviction(TIER, reason)

    def keep_now(self, data: bytes) -> str:
        """As `keep`. Raises NotKept."""
        name = name_of(data)
        if name is None:
            raise NotKept("no_picture")
        # A file that another process wrote may be damaged: it is written again.
        if not self.files.touch(name, self._wall()):
            self.write_now(name, data)
        return name

    def read_now(self, name: str) -> bytes | None:
        """As `read` of all bytes. It checks the hash each time."""
        data = self.load_now(name, MOST_PICTURE_BYTES)
        if data is not None and name_of(data) != name:
            self.files.remove(name, "damaged")
            return None
        return data

    def write_now(self, name: str, data: bytes) -> None:
        """Write any file of the store. Raises NotKept."""
        if not self._prepared:
            self._prepare()
        self.files.write(name, data, self._wall(), self._settings().images.max_bytes)

    def load_now(self, name: str, most: int) -> bytes | None:
        """Return the content of any file of the store, if it has at most so many bytes."""
        try:
            with self.files.opened(name, self._wall(), self.life, most) as found:
                return None if found is None else found[0].read()
        except OSError:  # as if it were gone: it may be back for the next request
            return None

    def _size(self, name: str) -> int | None:
        return self.files.size(name, self._wall(), self.life)

    def _part(self, name: str, start: int, length: int) -> bytes | None:
        try:
            with self.files.opened(name, self._wall(), self.life, MOST_PICTURE_BYTES) as found:
                if found is None:
                    return None
                if self._is_sound(name, *found):
                    found[0].seek(start)
                    return found[0].read(length)
        except OSError:
            return None
        self.files.remove(name, "damaged")
        return None

    def _is_sound(self, name: str, file: BufferedReader, found: stat_result) -> bool:
        """Whether a file has the bytes of its name. It is read if it has changed since.

        A use changes its time, once a minute.
        """
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._checked.pop(name, None) != version:
            if file_digest(file, "sha256").hexdigest() != digest_of(name):
                return False
            file.seek(0)
            if kind_of(file.read(HEAD_BYTES)) != name.rpartition(".")[2]:
                return False
        self._checked[name] = version
        if len(self._checked) > MOST_CHECKED:
            self._checked.popitem(last=False)
        return True

    # -- running --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Create the folder, and read it in the background. A failure is only logged."""
        if self.enabled:
            await self.guarded(self._prepare)
        self._background.spawn(self.scan())
        self._background.every(SCAN_SECONDS, self.scan)

    async def close(self) -> None:
        """Stop. Files that are being written are drafts until they are whole."""
        await self._background.close()
        for pool in (self._pool, self._links):
            pool.shutdown(wait=False, cancel_futures=True)

    async def scan(self) -> None:
        """Learn of the files of other processes, and remove what is too old or too much."""
        most = self._settings().images.max_bytes
        await self.run(lambda: self.files.scan(self._wall(), self.life, most))

    def _prepare(self) -> None:
        self.files.prepare()
        self._prepared = True

    # -- reports --------------------------------------------------------------------------------

    def not_kept(self, failure: NotKept) -> None:
        """Count a file that was not kept. If the folder is to blame, log each new reason."""
        self._observer.picture_not_kept(failure.reason)
        if not failure.cause:
            return
        self._failed_at = asyncio.get_running_loop().time()
        if failure.reason != self._failure:
            self._failure = failure.reason
            log.warning(
                "pictures are not kept",
                folder=str(self.files.folder),
                reason=failure.reason,
                cause=failure.cause,
            )

    def _went_well(self) -> None:
        if self._failure is None:
            return
        if asyncio.get_running_loop().time() - self._failed_at >= CALM_SECONDS:
            self._failure = None
            log.info("pictures are kept again", folder=str(self.files.folder))


def answer_file(fingerprint: str, mark: str) -> str:
    """Return the name of the file of a cached answer. `mark` is that of its seal."""
    return f"{fingerprint}.{mark}.{ANSWER}"
