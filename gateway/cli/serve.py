"""The command `gateway serve`."""

import os
from collections.abc import Mapping
from pathlib import Path

import click
from click.core import ParameterSource

from gateway.cli.base import Command, config_option, note, warn
from gateway.config.files import load_settings
from gateway.config.settings import Settings
from gateway.server.run import run
from gateway.upstream.sandbox import Answer


@click.command(cls=Command)
@config_option
@click.option("--host", metavar="HOST", help="Address of the public port; overrides [server] host.")
@click.option("--port", metavar="PORT", help="Public port, 0 for any; overrides [server] port.")
@click.option("--admin-port", metavar="PORT", help="Admin port; overrides [server] admin_port.")
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
@click.option(
    "--answer",
    type=click.Choice(["b64_json", "url", "both"]),
    default="b64_json",
    show_default=True,
    help="How the sandbox answers.",
)
def serve(
    config: Path | None,
    host: str | None,
    port: str | None,
    admin_port: str | None,
    sandbox: bool,
    demo: bool,
    answer: Answer,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    On these signals it admits no new purchases and completes the requests in flight. On SIGHUP it
    reads its configuration again.

    \b
    Examples:
      gateway serve --demo
      gateway serve --config /etc/gateway.toml --host 0.0.0.0 --port 80
    """
    source = click.get_current_context().get_parameter_source("answer")
    if source is ParameterSource.COMMANDLINE and not (sandbox or demo):
        raise click.UsageError("--answer needs --sandbox or --demo.")
    given = {"server.host": host, "server.port": port, "server.admin_port": admin_port}
    arguments = {option: text for option, text in given.items() if text is not None}
    settings = _serving_settings(config, arguments, sandbox=sandbox, demo=demo)
    run(settings, config, arguments, sandbox=sandbox, demo=demo, answer=answer)


def _serving_settings(
    config: Path | None, arguments: Mapping[str, str], *, sandbox: bool, demo: bool
) -> Settings:
    """Return the settings to serve with, and print warnings. Raises ConfigError."""
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
