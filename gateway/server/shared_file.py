"""Warns if several gateways serve one database file: they share money, not the cache or flights.

Each gateway holds a lock (flock) on a file beside the database, so that one that was killed leaves
no trace. The database itself cannot serve for it: SQLite's own locks end when any other descriptor
of the file is closed. Commands of the command line hold no lock.
"""

import fcntl
import os
from contextlib import suppress

import structlog

from gateway.config.store_url import StoreUrl
from gateway.core.tasks import Background

log = structlog.get_logger(source="gateway")

WATCH_SECONDS = 10.0
"""How often a gateway looks for others that started after it."""


class SharedFileWatch(Background):
    """Logs a warning for each other gateway: at the start, and in those that serve already.

    Without the lock, as on a file system that knows none, it is silent. It does nothing for a store
    that is no file.
    """

    def __init__(self, store: StoreUrl, watch_seconds: float = WATCH_SECONDS) -> None:
        super().__init__("shared file")
        self._store, self._watch_seconds = store, watch_seconds
        self._file = -1
        self._seen = 0

    async def start(self) -> None:
        """Take the lock."""
        if self._store.kind != "sqlite":
            return
        with suppress(OSError):
            self._file = os.open(self._path(), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._warn()
                os.utime(self._file)  # for the others
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self._seen = self._touched()
            self.every(self._watch_seconds, self._look)

    async def close(self) -> None:
        """Release the lock."""
        await super().close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    async def _look(self) -> None:
        if (touched := self._touched()) != self._seen:
            self._seen = touched
            self._warn()

    def _path(self) -> str:
        return f"{os.path.realpath(self._store.path)}-lock"

    def _touched(self) -> int:
        return os.fstat(self._file).st_mtime_ns

    def _warn(self) -> None:
        log.warning(
            "another gateway serves this database: both count towards the same budgets, but they "
            "share no cache and may buy an image twice; several gateways need Redis",
            store=self._store.shown,
        )
