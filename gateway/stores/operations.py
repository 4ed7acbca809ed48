"""Observes the operations of a store: how long each took, and whether the store answered."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from msgspec import DecodeError

from gateway.core.errors import StoreUnavailable
from gateway.stores.port import Observe


class Operations:
    """The operations of the store at `place`. Safe in any thread."""

    def __init__(self, place: str, observe: Observe | None) -> None:
        self._log = structlog.get_logger(source="store", place=place)
        self._observe = observe or (lambda operation, seconds, answered: None)

    @contextmanager
    def observed(self, name: str) -> Iterator[None]:
        """Observe one operation. Timeouts and damaged bytes raise StoreUnavailable."""
        started, answered = time.monotonic(), True
        try:
            yield
        except StoreUnavailable:
            answered = False
            raise
        except (TimeoutError, DecodeError) as failure:
            answered = False
            if isinstance(failure, DecodeError):
                self._log.exception("the store holds damaged bytes", operation=name)
            raise StoreUnavailable from failure
        finally:
            self._observe(name, time.monotonic() - started, answered)

    def went_back(self, account: str) -> None:
        """Log and count an account that is older than it was before: the store lost writes."""
        self._log.error(
            "the store went back: it lost writes, and budgets with them", account=account
        )
        self._observe("went_back", 0.0, False)
