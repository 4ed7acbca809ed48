"""Every fault of the configuration files, for `gateway check-config`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.config.environment import variable_place
from gateway.config.errors import ConfigError, Place
from gateway.config.files import DEFAULT_CONFIG, load_models, load_settings, load_teams
from gateway.config.models import Model
from gateway.config.options import variable_of
from gateway.config.settings import Settings
from gateway.reporting.alerts.http import file_faults
from gateway.server.tls import certificate_of
from gateway.upstream.credentials import with_key


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
