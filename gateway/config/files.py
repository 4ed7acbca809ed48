"""Reads configuration files from the disk, and the files that the configuration names.

A file that cannot be read is a fault like any other.
"""

from collections.abc import Mapping
from pathlib import Path

from gateway.config.environment import set_variables
from gateway.config.load import Sources, read_settings
from gateway.config.model_tables import read_models
from gateway.config.models import Model
from gateway.config.options import parse_toml
from gateway.config.settings import Settings
from gateway.config.teams_file import read_teams
from gateway.core.faults import ConfigError, Fault, Faults
from gateway.core.model import Team
from gateway.core.redaction import redact
from gateway.core.secret import wrapping_fault

DEFAULT_CONFIG = Path("config/gateway.toml")
"""Read if no file is named. If it does not exist, the defaults apply."""


def load_settings(
    file: Path | None,
    environ: Mapping[str, str],
    *,
    arguments: Mapping[str, str] | None = None,
    needs_upstream: bool = False,
) -> tuple[Settings, list[Fault]]:
    """Return the settings of a file (None: the default file), and warnings.

    See `gateway.config.load.read_settings`. Raises ConfigError with every fault.
    """
    return read_settings(
        _config_text(file),
        environ,
        file=str(file or DEFAULT_CONFIG),
        arguments=arguments,
        needs_upstream=needs_upstream,
    )


def find_sources(
    file: Path | None, environ: Mapping[str, str], arguments: Mapping[str, str] | None = None
) -> Sources:
    """Return the sources that `load_settings` reads, to place further faults."""
    path = file or DEFAULT_CONFIG
    return Sources(str(path) if path.exists() else None, set_variables(environ), arguments or {})


def load_models(file: Path | None) -> Mapping[str, Model]:
    """Return the models of a file. Its other sections may be wrong. Raises ConfigError."""
    faults = Faults(str(file or DEFAULT_CONFIG))
    tables = parse_toml(_config_text(file) or "", faults.source)
    models, _ = read_models(tables.get("models", {}), faults.at("models"))
    if faults.found:
        raise ConfigError(faults.found)
    return models


def load_teams(
    file: Path, models: Mapping[str, Model] | None, *, has_urls: bool = True
) -> list[Team]:
    """Return the teams of a file, in its order: see `read_teams`.

    Raises ConfigError with every fault.
    """
    return read_teams(_text(file), models=models, has_urls=has_urls, file=str(file))


def _config_text(file: Path | None) -> str | None:
    if file is None and not DEFAULT_CONFIG.exists():
        return None
    return _text(file or DEFAULT_CONFIG)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start + 1})"
    raise ConfigError([Fault((), message, str(file))])


# -- files that the configuration names ---------------------------------------------------------


def read_file(file: str) -> bytes:
    """Return the content of a file. Raises ValueError."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"the file {shown_file(file)} cannot be read: {error.strerror}") from None


def read_secret(file: str) -> bytes:
    """Return the secret that a file holds, without blanks around it. Raises ValueError."""
    secret = read_file(file).strip()
    if fault := wrapping_fault(secret):
        raise ValueError(f"the content of the file {shown_file(file)} {fault}")
    return secret


def shown_file(file: str) -> str:
    """Return the file's name for a message. Somebody may have put the secret itself there."""
    return "given" if "://" in file or "whsec_" in file else redact(file.encode(), ()).decode()
