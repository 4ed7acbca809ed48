"""Observes the operations of a store: how long each took, and whether the store answered."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from msgspec import DecodeError

from gateway.core.errors import StoreUnavailable
from gateway.core.money import format_usd
from gateway.core.periods import PeriodUsage
from gateway.quota.account import Account
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

    def went_back(self, name: str, before: Account, now: Account) -> None:
        """Log and count an account that is older than it was before: the store lost writes.

        It logs how much this gateway knows to be lost. Others may have written more.
        """
        pairs = ((before.day, now.day), (before.month, now.month))
        images, cost = zip(*(_lost(*pair) for pair in pairs), strict=True)
        self._log.error(
            "the store went back: it lost writes, and budgets with them",
            account=name,
            images_lost=max(images),
            cost_lost_usd=format_usd(max(cost)),
        )
        self._observe("went_back", 0.0, False)


def _lost(before: PeriodUsage, now: PeriodUsage) -> tuple[int, int]:
    """Return how many images and micro-dollars a period has lost."""
    same = now.period == before.period
    images, cost = (now.images, now.cost) if same else (0, 0)
    return max(0, before.images - images), max(0, before.cost - cost)
