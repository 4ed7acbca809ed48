"""A gateway in this process whose configuration file is changed and read again, as by SIGHUP."""

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from gateway.config.files import load_settings
from gateway.config.settings import Settings
from gateway.core.faults import Fault
from gateway.server.gateway import Gateway
from gateway.server.reload import reload
from gateway.upstream.sandbox import Sandbox
from tests.support.rig import FLAT, Rig, environ_for, rig_of
from tests.support.steps import drawing

READ_AGAIN = "configuration read again"
KEPT = "configuration kept"


class ConfigFile:
    """The configuration file of a gateway with this environment."""

    def __init__(self, path: Path, toml: str, environ: dict[str, str]) -> None:
        self.path = path
        self.path.write_text(toml)
        self.environ = environ

    def load(self) -> tuple[Settings, list[Fault]]:
        """The settings in the file and the environment, and warnings."""
        return load_settings(self.path, self.environ, needs_upstream=True)

    async def reread(
        self, gateway: Gateway, toml: str | None = None
    ) -> list[MutableMapping[str, Any]]:
        """Change the file and have the gateway read it again. Returns the lines that it logs."""
        if toml is not None:
            self.path.write_text(toml)
        with capture_logs() as lines:
            await reload(gateway, self.load)
        return [line for line in lines if line["source"] == "gateway"]


@asynccontextmanager
async def reloadable(
    folder: Path, toml: str = FLAT, **environ: str
) -> AsyncIterator[tuple[Rig, ConfigFile]]:
    """A rig and its configuration file. The sandbox draws dots."""
    async with Sandbox(drawing()) as sandbox:
        environ = environ_for(folder, sandbox, **environ)
        config = ConfigFile(folder / "gateway.toml", toml, environ)
        settings, _ = config.load()
        async with rig_of(Gateway(settings), sandbox) as rig:
            yield rig, config
