"""The command line: `gateway`, or `python -m gateway`.

Here are the commands that run something or look at the configuration; those over the store are in
`gateway.cli.keys`, `gateway.cli.teams` and `gateway.cli.archive`.
"""

import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway import __version__
from gateway.cli import admin, alerts, archive, keys, loading_modules, requests, teams
from gateway.cli.base import Group, InvalidInput, config_option, note, warn

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.upstream.sandbox import Answer


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
def gateway() -> None:
    """Keys, quotas and a cache for many teams in front of one paid image API.

    \b
    Try it without an upstream and without cost:
      gateway serve --demo
    Serve a real upstream:
      GATEWAY_UPSTREAM_BASE_URL=https://... GATEWAY_UPSTREAM_API_KEY=... gateway serve
    Let a team in:
      gateway teams apply config/teams.toml
      gateway keys create --team design
    """


gateway.add_command(teams.teams)
gateway.add_command(keys.keys)
gateway.add_command(teams.usage)
gateway.add_command(archive.store)
gateway.add_command(requests.activity)
gateway.add_command(admin.audit)
gateway.add_command(admin.admin)
gateway.add_command(alerts.alerts)


@gateway.command()
@config_option
@click.option(
    "--sandbox",
    is_flag=True,
    help="Put a stand-in in the upstream's place. What it sells is kept in sandbox.db, beside the "
    "configured store; for the other commands, name it in GATEWAY_STORE_URL.",
)
@click.option(
    "--demo",
    is_flag=True,
    help="Make a demo team, a key and, unless one is configured, an admin token, and print how "
    "to use them. Where no upstream key is set, the sandbox is the upstream.",
)
def serve(config: Path | None, sandbox: bool, demo: bool) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    Then no new call is taken in, and those that are open are still delivered. SIGHUP has the
    configuration read again.

    \b
    Examples:
      gateway serve --demo
      gateway serve --config /etc/gateway.toml
    """
    # What is sent before there is anything to read again must not end the start.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with loading_modules():
        settings = _serving_settings(config, sandbox=sandbox, demo=demo)
        from gateway.server.run import run
    run(settings, config, sandbox=sandbox, demo=demo)


def _serving_settings(config: Path | None, *, sandbox: bool, demo: bool) -> "Settings":
    """The settings to serve with. Prints warnings, raises ConfigError."""
    from gateway.config.files import load_settings

    settings, warnings = load_settings(config, os.environ, needs_upstream=not (sandbox or demo))
    upstream = settings.upstream
    if demo and not sandbox and (upstream.api_key or upstream.api_key_file):
        settings, warnings = load_settings(config, os.environ, needs_upstream=True)
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
    help="The teams. Without it, teams.toml beside the configuration is checked if it is there.",
)
def check_config(config: Path | None, teams: Path | None) -> None:
    """Tell every fault of the configuration at once.

    The environment and the teams' file are looked at too. Exit code 2 where there is any fault.
    What only 'serve' needs is a warning here, so that a configuration can be checked where the
    upstream's key is not; but a key file that is named must hold a key, unless the environment has
    one (any text will do) in GATEWAY_UPSTREAM_API_KEY.

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


@gateway.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8081,
    show_default=True,
    help="0 takes any free one.",
)
@click.option(
    "--latency",
    metavar="SECONDS",
    type=click.FloatRange(0, 3_600),
    default=0.0,
    show_default=True,
    help="How long it takes over a call.",
)
@click.option(
    "--answer",
    type=click.Choice(["b64_json", "url", "both"]),
    default="b64_json",
    show_default=True,
    help="How it hands over its pictures.",
)
def sandbox(host: str, port: int, latency: float, answer: "Answer") -> None:
    """Run a stand-in for the upstream.

    It draws real PNGs, which differ by prompt, and costs nothing. It takes any key, or only the
    one in the environment as GATEWAY_SANDBOX_API_KEY. What it was asked and what it delivered is
    counted on its route /control, where faults can be switched on too.

    \b
    Example:
      gateway sandbox --latency 5 --answer url
    """
    from gateway.cli.sandbox import run_sandbox
    from gateway.upstream.sandbox import SandboxSettings

    api_key = os.environ.get("GATEWAY_SANDBOX_API_KEY") or None
    run_sandbox(host, port, SandboxSettings(api_key=api_key, latency=latency, answer=answer))


# -- the process --------------------------------------------------------------------------------


def main() -> None:
    """The program: the command line with its own logs and encodings set up."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What the terminal's encoding does not have is escaped.
            stream.reconfigure(errors="backslashreplace")
    gateway(prog_name="gateway", obj=_quiet_logs)


def _quiet_logs() -> None:
    """Keep logs out of what a command prints; `serve` sets up its own."""
    from gateway.telemetry.logging import configure_logs

    configure_logs("error", "auto")
