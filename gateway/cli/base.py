"""Shared by all commands: options, access to the configuration and the store, and failures.

A failure that the user can act on is one line on standard error. The exit code is 2 for a faulty
configuration or command line, and 1 for everything else.
"""

import asyncio
import getpass
import os
import shlex
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.config.files import load_settings
from gateway.config.settings import Settings
from gateway.core.errors import StoreUnavailable
from gateway.core.faults import ConfigError, Fault
from gateway.core.periods import DAY_SECONDS
from gateway.core.redaction import redact
from gateway.server.startup import (
    StartError,
    load_pepper,
    open_store,
    sandbox_database,
    typed_program,
)
from gateway.stores.port import Store
from gateway.tenants.changes import Actor, OperationError

T = TypeVar("T")


# -- commands -----------------------------------------------------------------------------------


class InvalidInput(click.ClickException):
    """A configuration or another input that cannot be used: its faults, one a line."""

    exit_code = 2

    def __init__(self, faults: Iterable[Fault | str]) -> None:
        super().__init__("\n".join(map(str, faults)))

    def show(self, file: Any = None) -> None:
        click.echo(self.message, file=file, err=True)


class Command(click.Command):
    """A command whose known failures end in one line instead of a traceback.

    If the context has an object, it is a function that is called before the command.
    """

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.obj is not None:
            ctx.obj()
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise InvalidInput(error.faults) from None
        except (StartError, OperationError) as error:
            raise click.ClickException(str(error)) from None
        except StoreUnavailable as error:
            why = str(error.__cause__ or "") or "it took too long"
            raise click.ClickException(f"The store did not answer: {why}.") from None


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


# -- options ------------------------------------------------------------------------------------

config_option = click.option(
    "--config",
    metavar="FILE",
    envvar="GATEWAY_CONFIG",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Configuration file. Without it: config/gateway.toml, if it exists.",
)


def format_option(*formats: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add --format. The first format is the default."""
    return click.option(
        "--format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


class Parsed(click.ParamType[Any]):
    """A text that `parse` reads; its ValueError says why it cannot. `word` stays as it is."""

    def __init__(self, name: str, parse: Callable[[str], Any], word: str = "") -> None:
        self.name, self._parse, self._word = name, parse, word

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == self._word:
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("must be a day, written as YYYY-MM-DD") from None


_DAY = Parsed("day", _day)


def span_options(
    first: str = "", last: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add --from and --to, days in UTC. The arguments are added to their help."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        upper = f"Last day, included.{last}"
        command = click.option("--to", "last", metavar="DAY", type=_DAY, help=upper)(command)
        lower = f"First day, such as 2026-11-01.{first}"
        return click.option("--from", "first", metavar="DAY", type=_DAY, help=lower)(command)

    return add


def check_span(first: datetime | None, last: datetime | None) -> None:
    """Raise UsageError if the last day is before the first day."""
    if first is not None and last is not None and last < first:
        raise click.UsageError("The last day is before the first day.")


def span_of(first: datetime | None, last: datetime | None) -> tuple[float | None, float | None]:
    """Return when the first day begins and when the last day ends. Raises UsageError."""
    check_span(first, last)
    start = None if first is None else first.timestamp()
    end = None if last is None else last.timestamp() + DAY_SECONDS
    return start, end


# -- the store ----------------------------------------------------------------------------------


def read_settings(config: Path | None) -> Settings:
    """Return the settings of the configuration. Raises ConfigError."""
    return load_settings(config, os.environ)[0]


def with_store(
    config: Path | None, work: Callable[[Store, bytes], Awaitable[T]], *, create: bool = False
) -> T:
    """Open the configured store, do `work` with it and the pepper, and close it again.

    Only with `create` is a missing database created: a command in the wrong folder would answer
    from an empty store. Raises ConfigError, StartError, and the errors of `work`.
    """
    settings = read_settings(config)
    _check_database(settings, create)

    async def run() -> T:
        pepper = load_pepper(settings.keys, settings.store.place)
        store = await open_store(settings, pepper)
        try:
            return await work(store, pepper)
        finally:
            await store.close()

    return asyncio.run(run())


def _check_database(settings: Settings, create: bool) -> None:
    """Raise an error if the configured database file does not exist; with `create`, only warn."""
    place = settings.store.place
    if place.kind != "sqlite" or Path(place.path).exists():
        return
    sandbox = sandbox_database(settings)
    if sandbox.exists():
        typed = redact(shlex.join([typed_program(), *sys.argv[1:]]).encode(), ()).decode()
        hint = f"To use the sandbox's, run `GATEWAY_STORE_URL=sqlite:{sandbox} {typed}`"
    else:
        hint = (
            "'gateway teams apply' and 'gateway serve' create it; GATEWAY_STORE_URL names another "
            "one."
        )
    if not create:
        raise click.ClickException(f"There is no database {place.path}. {hint}")
    if sandbox.exists():
        note(f"warning: creating the database {place.path}. {hint}")


def command_line_user() -> Actor:
    """Return who acts, for the audit log: the user of this machine, now."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in many containers
        user = f"user {os.getuid()}"
    return Actor(f"command line as {user}", time.time())


# -- output -------------------------------------------------------------------------------------


def note(message: str) -> None:
    """Print a message that is not the command's answer, on standard error."""
    with suppress(OSError):  # the answer must follow even if nobody can read the message
        click.echo(message, err=True)


def print_once(text: str, lost: str) -> None:
    """Print a secret that cannot be shown again. `lost` ends the error if nobody receives it."""
    try:
        click.echo(text)
    except OSError as error:
        why = error.strerror
        raise click.ClickException(f"Cannot write to standard output ({why}): {lost}") from None


def warn(warnings: Iterable[Fault]) -> None:
    """Print warnings, one a line."""
    for warning in warnings:
        note(f"warning: {warning}")
