"""The command line: `gateway`, or `python -m gateway`.

This module has the commands that run something or check the configuration. The commands that use
the store are in modules of their own.
"""

import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway import __version__
from gateway.cli import alerts, archive, history, keys, loading_modules, sandbox, teams, usage
from gateway.cli.base import Group, InvalidInput, config_option, note, warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.config.settings import Settings


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
def gateway() -> None:
    """Keys, quotas and a cache for many teams in front of one paid image API.

    \b
    Try it without an upstream and without cost:
      gateway serve --demo
    Serve a real upstream:
      GATEWAY_UPSTREAM_BASE_URL=https://... GATEWAY_UPSTREAM_API_KEY=... gateway serve
    Create a team and its key:
      gateway teams apply config/teams.toml
      gateway keys create --team design
    """


for command in (
    teams.teams,
    keys.keys,
    usage.usage,
    archive.store,
    history.activity,
    history.audit,
    keys.admin,
    alerts.alerts,
    sandbox.sandbox,
):
    gateway.add_command(command)


@gateway.command()
@config_option
@click.option("--host", metavar="HOST", help="Address of the public port; outranks [server] host.")
@click.option("--port", metavar="PORT", help="Public port, 0 for any; outranks [server] port.")
@click.option("--admin-port", metavar="PORT", help="Admin port; outranks [server] admin_port.")
@click.option(
    "--sandbox",
    is_flag=True,
    help="Use the sandbox as the upstream, with its own store: sandbox.db next to the configured "
    "database. For other commands, set GATEWAY_STORE_URL=sqlite:data/sandbox.db.",
)
@click.option(
    "--demo",
    is_flag=True,
    help="Create a demo team and its key, and an admin token unless one is configured. Print how "
    "to use them. Without an upstream key, the sandbox is the upstream.",
)
def serve(
    config: Path | None,
    host: str | None,
    port: str | None,
    admin_port: str | None,
    sandbox: bool,
    demo: bool,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    On these signals it refuses new requests and completes the ones in flight. On SIGHUP it reads
    its configuration again.

    \b
    Examples:
      gateway serve --demo
      gateway serve --config /etc/gateway.toml --host 0.0.0.0 --port 80
    """
    # A SIGHUP before the gateway handles it must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    given = {"server.host": host, "server.port": port, "server.admin_port": admin_port}
    arguments = {option: text for option, text in given.items() if text is not None}
    with loading_modules():
        settings = _serving_settings(config, arguments, sandbox=sandbox, demo=demo)
        from gateway.server.run import run
    run(settings, config, arguments, sandbox=sandbox, demo=demo)


def _serving_settings(
    config: Path | None, arguments: "Mapping[str, str]", *, sandbox: bool, demo: bool
) -> "Settings":
    """Return the settings to serve with, and print warnings. Raises ConfigError."""
    from gateway.config.files import load_settings

    settings, warnings = load_settings(
        config, os.environ, arguments=arguments, needs_upstream=not (sandbox or demo)
    )
    upstream = settings.upstream
    if demo and not sandbox and (upstream.api_key or upstream.api_key_file):
        settings, warnings = load_settings(
            config, os.environ, arguments=arguments, needs_upstream=True
        )
    elif demo and not sandbox and upstream.base_url:
        note("warning: there is no upstream key, so the sandbox is the upstream")
    warn(warnings)
    return settings


@gateway.command("check-config")
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
      gateway check-config --config deploy/gateway.toml --teams deploy/teams.toml
    """
    from gateway.cli.check_config import find_faults
    from gateway.config.files import DEFAULT_CONFIG

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


# -- the process --------------------------------------------------------------------------------


def main() -> None:
    """Run the command line, with logs and encodings set up."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Escape characters that the terminal's encoding does not have.
            stream.reconfigure(errors="backslashreplace")
    gateway(prog_name="gateway", obj=_quiet_logs)


def _quiet_logs() -> None:
    """Keep logs out of a command's output; `serve` sets up its own logging."""
    from gateway.telemetry.logging import configure_logs

    configure_logs("error", "auto")
