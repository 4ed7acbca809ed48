"""Empty data for stores of both kinds, many of them on one Redis server."""

from functools import partial
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck

from gateway.config.store_url import parse_store_url
from gateway.stores.redis import RedisStore
from gateway.stores.sqlite import SqliteStore
from tests.conformance.store import MakeStore
from tests.support.redis import RedisServer

KINDS = ("sqlite", "redis")

ONE_SERVER = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
"""For hypothesis: its examples share the fixture, and take new places from it."""

DATABASES = 8_192
"""More than the tests of one worker use."""


class Places:
    """Each place is a new file in the folder, or a new database of the server."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self._folder = folder
        self._server = server
        self._numbers = count()

    def new(self, kind: str) -> MakeStore:
        """Return a function that makes stores on empty data."""
        if kind == "redis":
            return partial(RedisStore, parse_store_url(self.redis_url()))
        return partial(SqliteStore, self._folder / str(next(self._numbers)) / "gateway.db")

    def redis_url(self) -> str:
        """Return the URL of an empty database of the server."""
        return f"redis://127.0.0.1:{self._server.port}/{next(self._numbers)}"
