"""The command `gateway check-config`: every fault of the configuration files."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from gateway.cli.base import Command, InvalidInput, config_option, warn
from gateway.config.files import (
    DEFAULT_CONFIG,
    find_sources,
    load_models,
    load_settings,
    load_teams,
)
from gateway.config.load import Sources
from gateway.config.settings import Settings
from gateway.core.faults import ConfigError, Fault, Faults
from gateway.images.bucket import check_bucket
from gateway.reporting.alerts.http import file_faults
from gateway.server.tls import certificate_of, check_client_files
from gateway.upstream.credentials import with_key


@click.command("check-config", cls=Command)
@config_option
@click.option(
    "--teams",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Teams file. Without it: teams.toml next to the configuration file, if it exists.",
)
def check_config(config: Path | None, teams: Path | None) -> None:
    """List every fault of the configuration at once.

    This checks the file, the environment and the teams file. The exit code is 2 if there is a
    fault. A missing upstream URL or key only causes a warning, so that you can check a
    configuration on a machine without them. If the configuration names a key file, the file must
    hold a key. To check without that file, set GATEWAY_UPSTREAM_API_KEY to any text.

    \b
    Example:
      gateway check-config --config /etc/gateway/gateway.toml --teams config/teams.toml
    """
    file = config or DEFAULT_CONFIG
    beside = file.with_name("teams.toml")
    teams = teams or (beside if beside.exists() else None)
    faults, warnings = find_faults(config, teams, os.environ)
    warn(warnings)
    if faults:
        raise InvalidInput(faults)
    checked = [file, teams] if file.exists() else [teams]
    names = [*(str(path) for path in checked if path), "the environment"]
    click.echo(f"No faults in {', '.join(names)}.")


def find_faults(
    file: Path | None, teams: Path | None, environ: Mapping[str, str]
) -> tuple[list[Fault], list[Fault]]:
    """Return all faults and warnings of the configuration and, if named, of the teams file.

    A missing upstream or webhook variable is only a warning. A named file that lacks its secret is
    a fault, and so is a certificate that cannot be used.
    """
    faults, warnings, has_urls = list[Fault](), list[Fault](), True
    try:
        settings, warnings = load_settings(file, environ)
    except ConfigError as error:
        faults += error.faults
    else:
        has_urls = settings.has_urls
        try:
            load_settings(file, environ, needs_upstream=True)
        except ConfigError as error:
            warnings += error.faults
        _check_named_files(settings, find_sources(file, environ), faults)
    if teams is not None:
        models = None
        try:
            models = load_models(file)
        except ConfigError:
            message = f"not compared with the models, because {file or DEFAULT_CONFIG} is wrong"
            warnings.append(Fault((), message, str(teams)))
        try:
            load_teams(teams, models, has_urls=has_urls)
        except ConfigError as error:
            faults += error.faults
    return faults, warnings


def _check_named_files(settings: Settings, sources: Sources, faults: list[Fault]) -> None:
    """Add a fault for each file that the settings name and that lacks what it should hold."""
    if settings.upstream.api_key_file is not None:
        try:
            with_key(settings.upstream)
        except ValueError as error:
            faults.append(sources.fault("upstream.api_key_file", str(error)))
    webhooks = Faults(sources.file or "", ("alerts", "webhooks"), faults)
    for name, option, message in file_faults(settings.alerts.webhooks.values()):
        webhooks.add(message, name, option)
    try:
        certificate_of(settings.server)
    except ValueError as error:
        faults.append(sources.fault("server.tls_cert", str(error)))
    images = settings.images
    if images.is_bucket:
        try:
            check_bucket(images)
        except ValueError as error:
            faults.append(sources.fault("images.url", str(error)))
    elif images.enabled and images.folder.exists() and not images.folder.is_dir():
        faults.append(sources.fault("images.url", "names a file, not a folder"))
    for option, place in (("store.url", settings.store.place), ("cache.url", settings.cache.place)):
        try:
            check_client_files(place.tls_files if place else {})
        except ValueError as error:
            faults.append(sources.fault(option, str(error)))
