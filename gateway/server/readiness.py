"""Whether a purchase could be written a moment ago, which `/readyz` and a metric report.

Each written purchase proves it. After a while without one, a probe writes in the same way, and
changes no account. While the store is healthy, a probe writes little. After a failure it writes as
much as a purchase: on a disk that is nearly full, a smaller write may still succeed.
"""

from collections.abc import Callable

import structlog

from gateway.core.clock import since_boot
from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service
from gateway.quota.store import AccountStore
from gateway.telemetry.observer import Observer

log = structlog.get_logger(source="readiness")

CHECK_SECONDS = 0.25

PROBE_SECONDS = 1.25
"""The interval of probes. A store operation takes at most 2.5 s, so a failure shows within 4 s."""

PROOF_SECONDS = 4.0
"""How long a write proves that the next one works, if no probe has ended since."""

DIRECTORY_SECONDS = 2.0
"""How long ago the directory may have been read last."""


class Readiness(Observer, Service):
    """Follows whether purchases can be written. As an observer it receives the store's operations.

    `cause` completes "The store cannot be used: ...". It is None while purchases can be written.
    """

    def __init__(self, store: AccountStore, directory_age: Callable[[], float]) -> None:
        self._store = store
        self._directory_age = directory_age
        self._proved_at = self._probed_at = float("-inf")
        self._failure: str | None = None
        self._doubtful = True
        self._background = Background("readiness")

    @property
    def cause(self) -> str | None:
        """Why no purchase can be written now, or None."""
        proved = since_boot() - self._proved_at <= PROOF_SECONDS
        if self._failure or (proved and self._directory_age() <= DIRECTORY_SECONDS):
            return self._failure
        return "it does not answer"

    async def start(self) -> None:
        """Probe once, then whenever no purchase was written for a while."""
        await self._probe()
        self._background.every(CHECK_SECONDS, self._check)

    async def close(self) -> None:
        """Stop probing."""
        await self._background.close()

    def store_operation(self, operation: str, seconds: float, ok: bool) -> None:
        """Note the written purchases, and those that could not be written."""
        if operation == "swap" and ok:
            self._proved_at = since_boot()
        elif operation == "swap":
            self._doubtful = True

    async def _check(self) -> None:
        last = self._probed_at if self._failure else max(self._probed_at, self._proved_at)
        if since_boot() - last >= PROBE_SECONDS:
            await self._probe()

    async def _probe(self) -> None:
        self._probed_at = since_boot()
        try:
            await self._store.probe(thorough=self._doubtful)
        except StoreUnavailable as unavailable:
            self._doubtful = True
            if self._failure is None:
                log.warning("not ready: purchases cannot be written", cause=unavailable.cause)
            self._failure = unavailable.cause
            return
        self._proved_at, self._doubtful = since_boot(), False
        if self._failure is not None:
            self._failure = None
            log.info("ready again: purchases can be written")
