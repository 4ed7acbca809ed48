"""The upstream key: from the environment, or from a file that may change while the gateway runs.

The settings that a gateway runs with hold the key itself. Where it came from a file, that file is
read again every second; no notice of the file system is needed, so renames, symbolic links that
are turned (as Kubernetes does) and network disks are all the same.
"""

import asyncio
from pathlib import Path

import structlog
from msgspec.structs import replace

from gateway.config.live import LiveSettings
from gateway.config.settings import UpstreamSettings
from gateway.core.redaction import scrub
from gateway.core.secret import Secret
from gateway.core.tasks import Background, Service

log = structlog.get_logger(source="upstream")

LOOK_SECONDS = 1.0
"""How often a key file is read. A new key is in use after two looks."""


def with_key(settings: UpstreamSettings) -> UpstreamSettings:
    """The settings with their key in `api_key`; `api_key_file` stays only where it came from there.

    Raises ValueError, whose text says why there is no key and has nothing of it.
    """
    if settings.api_key is not None:
        return replace(settings, api_key_file=None)  # the environment outranks the file
    if settings.api_key_file is None:
        raise ValueError("no upstream key is set")
    return replace(settings, api_key=_read(settings.api_key_file))


def _read(file: str) -> Secret:
    try:
        content = Path(file).read_bytes().strip()
    except OSError as error:
        raise ValueError(f"the file {_shown(file)} cannot be read: {error.strerror}") from None
    text = content.decode("ascii", "replace")
    if not text or not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError(f"the file {_shown(file)} does not hold one line of printable ASCII")
    return Secret(text)


def _shown(file: str) -> str:
    """The file's name as it may be told: somebody may have put the key itself there."""
    return scrub(file.encode(), ()).decode()


class KeyFile:
    """A key file that is looked at again and again."""

    def __init__(self) -> None:
        self._found: Secret | str = ""

    def look(self, settings: UpstreamSettings) -> UpstreamSettings | None:
        """The settings with the file's new key, where that is as it was at the last look.

        So a file that is just being written is left alone. One that holds no key is told of once,
        and changes nothing.
        """
        if settings.api_key_file is None:
            return None
        former, self._found = self._found, _key_or_fault(settings.api_key_file)
        if isinstance(self._found, str):
            if self._found != former:
                log.error("upstream key kept", fault=self._found)
            return None
        if self._found != former or self._found == settings.api_key:
            return None
        return replace(settings, api_key=self._found)


def _key_or_fault(file: str) -> Secret | str:
    try:
        return _read(file)
    except ValueError as error:
        return str(error)


class KeyFileWatcher(Service):
    """Puts a changed key file in force."""

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._file = KeyFile()
        self._background = Background("upstream key")

    async def start(self) -> None:
        """Check the file every second."""
        self._background.every(LOOK_SECONDS, self._check)

    async def close(self) -> None:
        """Stop checking."""
        await self._background.close()

    async def _check(self) -> None:
        former = self._settings().upstream
        changed = await asyncio.to_thread(self._file.look, former)
        # A reload during the look may have put another key in force, which is then the newer one.
        if changed is not None and self._settings().upstream is former:
            self._settings.replace(replace(self._settings(), upstream=changed))
            log.info("upstream key changed")
