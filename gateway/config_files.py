"""Configuration files: read from the disk and handed to the rules that make sense of them.

A file that cannot be read is told like any other fault of the configuration.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.certificate import certificate_of
from gateway.model import Team
from gateway.rules.catalog import Model
from gateway.rules.config import read_settings
from gateway.rules.config_environment import variable_place
from gateway.rules.config_faults import ConfigError, Place
from gateway.rules.config_models import read_models
from gateway.rules.config_options import variable_of
from gateway.rules.config_text import parse_toml
from gateway.rules.settings import Settings
from gateway.rules.teams import read_teams
from gateway.upstream.credentials import with_key
from gateway.upstream.webhook_secrets import file_faults

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


def find_faults(
    file: Path | None, teams: Path | None, environ: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """All faults of the configuration and, where `teams` is given, of that file; and warnings.

    To have no upstream, or no variable that a webhook names, is only worth a warning; to name a
    file that does not hold the secret that it should is a fault, and so is a certificate of no use.
    """
    faults, warnings = list[str](), list[str]()
    try:
        settings, warnings = load_settings(file, environ)
    except ConfigError as error:
        faults += error.faults
    else:
        warnings += _missing_upstream(file, environ)
        faults += _key_faults(settings, file, environ)
        faults += _webhook_faults(settings, file)
        faults += _certificate_faults(settings, file, environ)
    if teams is not None:
        models = None
        try:
            models = load_models(file)
        except ConfigError:
            wrong = file or DEFAULT_CONFIG
            warnings.append(f"{teams}: not compared with the models, because {wrong} is wrong")
        faults += _team_faults(teams, models)
    return faults, warnings


def _missing_upstream(file: Path | None, environ: Mapping[str, str]) -> list[str]:
    """What settings without faults lack to serve."""
    try:
        load_settings(file, environ, needs_upstream=True)
    except ConfigError as error:
        return error.faults
    return []


def _key_faults(settings: Settings, file: Path | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Why the file that is to hold the upstream's key holds none."""
    if settings.upstream.api_key_file is None:
        return
    try:
        with_key(settings.upstream)
    except ValueError as error:
        yield f"{_place('upstream', 'api_key_file', file, environ)}: {error}"


def _certificate_faults(
    settings: Settings, file: Path | None, environ: Mapping[str, str]
) -> Iterator[str]:
    """Why the public port could show no certificate, where it is to."""
    try:
        certificate_of(settings.server)
    except ValueError as error:
        yield f"{_place('server', 'tls_cert', file, environ)}: {error}"


def _place(section: str, name: str, file: Path | None, environ: Mapping[str, str]) -> str:
    """Where an option stands: in the environment, which outranks the file, or there."""
    variable = variable_of(section, name)
    if environ.get(variable):
        return variable_place(variable)
    return Place(str(file or DEFAULT_CONFIG)).table(section).option(name)


def _webhook_faults(settings: Settings, file: Path | None) -> Iterator[str]:
    """Why files that webhooks need do not hold what they should."""
    place = Place(str(file or DEFAULT_CONFIG)).table("alerts").table("webhooks")
    for name, option, fault in file_faults(settings.alerts.webhooks.values()):
        yield f"{place.table(name).option(option)}: {fault}"


def _team_faults(teams: Path, models: Mapping[str, Model] | None) -> list[str]:
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
