"""Configuration files: read from the disk and handed to the rules that make sense of them.

A file that cannot be read is told like any other fault of the configuration.
"""

from collections.abc import Mapping
from pathlib import Path

from gateway.model import Team
from gateway.rules.catalog import Model
from gateway.rules.config import read_settings
from gateway.rules.config_faults import ConfigError, Place
from gateway.rules.config_models import read_models
from gateway.rules.config_text import parse_toml
from gateway.rules.settings import Settings
from gateway.rules.teams import read_teams

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


def load_teams(file: Path, models: Mapping[str, Model]) -> list[Team]:
    """The teams of a file, in its order. Raises ConfigError with every fault."""
    return read_teams(_text(file), models=models, place=str(file))


def find_faults(
    file: Path | None, teams: Path | None, environ: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """All faults of the configuration and, where `teams` is given, of that file; and warnings.

    To have no upstream is only worth a warning.
    """
    faults, warnings = list[str](), list[str]()
    try:
        _, warnings = load_settings(file, environ)
    except ConfigError as error:
        faults += error.faults
    else:
        warnings += _missing_upstream(file, environ)
    if teams is not None:
        try:
            models = load_models(file)
        except ConfigError:
            warnings.append(f"{teams}: not checked, because {file or DEFAULT_CONFIG} is wrong")
        else:
            faults += _team_faults(teams, models)
    return faults, warnings


def _missing_upstream(file: Path | None, environ: Mapping[str, str]) -> list[str]:
    """What settings without faults lack to serve."""
    try:
        load_settings(file, environ, needs_upstream=True)
    except ConfigError as error:
        return error.faults
    return []


def _team_faults(teams: Path, models: Mapping[str, Model]) -> list[str]:
    try:
        load_teams(teams, models)
    except ConfigError as error:
        return error.faults
    return []


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
