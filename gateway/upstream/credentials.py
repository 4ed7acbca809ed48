"""The upstream key, from the environment or from a file that may change while the gateway runs.

The settings of a running gateway contain the key itself. The gateway reads a key file again every
second. It needs no notifications from the file system, so renamed files, changed symbolic links
(as in Kubernetes) and network disks all work.
"""

import asyncio
from dataclasses import dataclass, field

import structlog
from msgspec.structs import replace

from gateway.config.files import read_secret, shown_file
from gateway.config.live import LiveSettings
from gateway.config.settings import UpstreamSettings
from gateway.config.values import check_api_key
from gateway.core.secret import Secret
from gateway.core.tasks import Background, Service

log = structlog.get_logger(source="upstream")

LOOK_SECONDS = 1.0
"""The interval of reading a key file. A new key is used once two reads agree."""


def with_key(settings: UpstreamSettings) -> UpstreamSettings:
    """Return the settings with the key in `api_key`.

    `api_key_file` only stays set if the key came from it. Raises ValueError without a usable key.
    The text of the error has no part of the key.
    """
    if settings.api_key is not None:
        return replace(settings, api_key_file=None)  # the environment outranks the file
    if settings.api_key_file is None:
        raise ValueError("no upstream key is set")
    return replace(settings, api_key=_read(settings.api_key_file))


def _read(file: str) -> Secret:
    key = Secret(read_secret(file).decode("ascii", "replace"))
    try:
        check_api_key(key)
    except ValueError:
        message = f"the file {shown_file(file)} must contain one line of printable ASCII"
        raise ValueError(f"{message} without spaces") from None
    return key


@dataclass(eq=False)
class KeyFileWatcher(Service):
    """Applies a changed key file to the running gateway."""

    settings: LiveSettings
    _found: Secret | str = ""
    _background: Background = field(default_factory=lambda: Background("upstream key"))

    async def start(self) -> None:
        """Check the file every second."""
        self._background.every(LOOK_SECONDS, self._check)

    async def close(self) -> None:
        """Stop checking."""
        await self._background.close()

    async def _check(self) -> None:
        former = self.settings().upstream
        changed = await asyncio.to_thread(self.look, former)
        # A reload during the read may have set another key, which is then the newer one.
        if changed is not None and self.settings().upstream is former:
            self.settings.replace(replace(self.settings(), upstream=changed))
            log.info("upstream key changed")

    def look(self, settings: UpstreamSettings) -> UpstreamSettings | None:
        """Return the settings with a new key from the file, or None if there is none.

        A key is only used once two reads agree, so a file that is being written is left alone. A
        file without a usable key is logged once and changes nothing.
        """
        if settings.api_key_file is None:
            return None
        former = self._found
        try:
            self._found = _read(settings.api_key_file)
        except ValueError as error:
            self._found = str(error)
            if self._found != former:
                log.error("upstream key kept", fault=self._found)  # noqa: TRY400 - it says it all
            return None
        if self._found != former or self._found == settings.api_key:
            return None
        return replace(settings, api_key=self._found)
