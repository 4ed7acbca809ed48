"""Watches the settings of the store's server: whether it may lose purchases it has acknowledged."""

from collections.abc import Sequence

import structlog

from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service
from gateway.stores.port import UNKNOWN, Store, StoreSetting
from gateway.telemetry.metrics import Metrics

log = structlog.get_logger(source="store")

CHECK_SECONDS = 60.0


class StoreWatch(Service):
    """Reads the settings at the start and each minute, and logs their risks when they change.

    `settings` are those read last, for `/readyz`. A store that does not answer keeps them.
    """

    def __init__(self, store: Store, place: str, metrics: Metrics) -> None:
        self._store = store
        self._log = log.bind(place=place)
        self._metrics = metrics
        self._background = Background("store settings")
        self._logged = ""
        self.settings: Sequence[StoreSetting] = ()

    async def start(self) -> None:
        """Read the settings, then each minute."""
        await self.check()
        self._background.every(CHECK_SECONDS, self.check)

    async def close(self) -> None:
        """Stop reading."""
        await self._background.close()

    async def check(self) -> None:
        """Read the settings now."""
        try:
            self.settings = await self._store.settings()
        except StoreUnavailable:  # logged elsewhere
            return
        for setting in self.settings:
            state = -1 if setting.value == UNKNOWN else int(setting.risk is None)
            self._metrics.store_setting_safe.labels(setting.name).set(state)
        risks = [f"{each.name} {each.value}: {each.risk}" for each in self.settings if each.risk]
        hidden = [each.name for each in self.settings if each.value == UNKNOWN]
        if hidden:
            risks.append(f"not shown to this user, check them: {', '.join(hidden)}")
        text = "; ".join(risks)
        if text and text != self._logged:
            self._log.warning("the store may lose purchases", risks=text)
        elif self._logged and not text:
            self._log.info("the store's settings are safe")
        self._logged = text
