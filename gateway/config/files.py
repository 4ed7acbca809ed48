"""Configuration files: read from the disk and handed to the rules that make sense of them.

A file that cannot be read is told like any other fault of the configuration.
"""

from collections.abc import Mapping
from pathlib import Path

from gateway.config.errors import ConfigError, Place
from gateway.config.load import read_settings
from gateway.config.model_tables import read_models
from gateway.config.models import Model
from gateway.config.settings import Settings
from gateway.config.teams_file import read_teams
from gateway.config.toml import parse_toml
from gateway.core.model import Team

DEFAULT_CONFIG = Path("config/gateway.toml")
"""What is read where no file is named. It may be missing: then the defaults apply."""


def load_settings(
    file: Path | None, environ: Mapping[str, str], *, needs_upstream: bool = False
) -> tuple[Settings, list[str]]:
    """The settings of a file (None: the default one) and the environment, and warnings.

    `needs_upstream` makes it a fault to have no upstream. Raises ConfigError with every fault.
    """
    return read_settings(
        _config_text(file),
        environ,
        place=str(file or DEFAULT_CONFIG),
        needs_upstream=needs_upstream,
    )


def load_models(file: Path | None) -> Mapping[str, Model]:
    """The models of a file whose other sections may be wrong. Raises ConfigError."""
    place, faults = str(file or DEFAULT_CONFIG), list[str]()
    tables = parse_toml(_config_text(file) or "", place)
    models, _ = read_models(tables.get("models", {}), Place(place).table("models"), faults)
    if faults:
        raise ConfigError(faults)
    return models


def load_teams(file: Path, models: Mapping[str, Model] | None) -> list[Team]:
    """The teams of a file, in its order; without `models` those are not compared with it.

    Raises ConfigError with every fault.
    """
    return read_teams(_text(file), models=models, place=str(file))


def _config_text(file: Path | None) -> str | None:
    if file is None and not DEFAULT_CONFIG.exists():
        return None
    return _text(file or DEFAULT_CONFIG)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: is not UTF-8 text (byte {error.start + 1})"]) from None
