"""The command line: `gateway`, or `python -m gateway`.

This module imports nothing heavy, so that --help answers at once. Each command is in a module that
is imported when the command is called.
"""

import errno
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from gateway import __version__
from gateway.cli import loading_modules
from gateway.core.redaction import redact

COMMANDS = {
    "activity": ("history", "Show recent requests of all gateways, newest first."),
    "admin": ("keys", "Create tokens for the admin API."),
    "alerts": ("alerts", "Test the webhooks that receive alerts."),
    "audit": ("history", "Show who changed which team or key, newest first."),
    "check-config": ("check_config", "List every fault of the configuration at once."),
    "generate": ("generate", "Generate pictures through a running gateway."),
    "keys": ("keys", "Manage the teams' keys."),
    "purchases": (
        "purchases",
        "Look into single purchases, refund unknown charges, and find a picture's purchase.",
    ),
    "sandbox": ("sandbox", "Run a free replacement for the upstream, for tests and trials."),
    "serve": ("serve", "Run the gateway until Ctrl-C or SIGTERM."),
    "store": ("archive", "Back up the store, or move it to another one."),
    "teams": ("teams", "Manage the teams: their policies and limits."),
    "usage": ("usage", "Show requests, images and costs."),
}
"""The module of each command in this package, and its line in the help."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Failures of a write to standard output. Other files' failures do not leave a command."""


class _Commands(click.Group):
    """All commands. Usage errors do not repeat a key in a misplaced argument."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"gateway.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] == "serve":
            # A SIGHUP before the gateway handles it must not end the process.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with loading_modules():
            return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            message = error.format_message()
            harmless = redact(message.encode(), ()).decode()
            if harmless == message:
                raise
            raise click.UsageError(harmless, error.ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
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


def main() -> None:
    """Run the command line, with logs and encodings set up.

    Output that cannot be written, as to a full disk, ends in one line and a failure.
    """
    _replace_closed_files()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Escape characters that the terminal's encoding does not have.
            stream.reconfigure(errors="backslashreplace")
    code: Any = 1
    try:
        gateway(prog_name="gateway", obj=_quiet_logs)
    except SystemExit as end:
        code = end.code
    except OSError as failure:
        if failure.errno not in _FULL:
            raise
        _report(failure)
    try:
        sys.stdout.flush()
    except OSError as failure:
        # The rest of the output must not fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not code:
            _report(failure)
            code = 1
    sys.exit(code)


def _replace_closed_files() -> None:
    """Give the numbers of closed standard files (`<&-`, `>&-`) to the null device.

    Otherwise other files get them, and uvloop aborts the process when it closes one of those.
    Writing to standard output still fails.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # this gets the lowest free number
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _report(failure: OSError) -> None:
    """Say that the output is incomplete, unless its reader has closed the pipe."""
    if failure.errno != errno.EPIPE:
        with suppress(OSError):  # the same device may be behind standard error
            click.echo(f"Error: Cannot write to standard output: {failure.strerror}.", err=True)


def _quiet_logs() -> None:
    """Keep logs out of a command's output; `serve` sets up its own logging."""
    from gateway.telemetry.logging import configure_logs

    configure_logs("error", "auto")
