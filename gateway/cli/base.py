"""What all commands share: how failures end, where the configuration is, how the store is opened.

What a user can act on ends in one line on standard error: exit code 2 for a faulty configuration
or command line, 1 for everything else. Heavy modules are imported inside the functions that use
them, so that help comes at once.
"""

import getpass
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gateway.core.faults import Fault
    from gateway.stores.port import Store
    from gateway.tenants.changes import Actor

T = TypeVar("T")


class InvalidInput(click.ClickException):
    """A configuration or another input that cannot be used: its faults, one a line."""

    exit_code = 2

    def __init__(self, faults: "Iterable[Fault | str]") -> None:
        super().__init__("\n".join(map(str, faults)))

    def show(self, file: Any = None) -> None:
        click.echo(self.message, file=file, err=True)


class Command(click.Command):
    """A command whose known failures end in one line, never in a traceback.

    The context's object, where there is one, is a function that is called first.
    """

    def invoke(self, ctx: click.Context) -> Any:
        from gateway.config.errors import ConfigError
        from gateway.core.errors import StoreUnavailable
        from gateway.server.startup import StartError
        from gateway.tenants.changes import OperationError

        if ctx.obj is not None:
            ctx.obj()
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise InvalidInput(error.faults) from None
        except (StartError, OperationError) as error:
            raise click.ClickException(str(error)) from None
        except StoreUnavailable as error:
            cause = error.__cause__
            why = "it took too long" if cause is None or not str(cause) else str(cause)
            raise click.ClickException(f"The store did not answer: {why}.") from None


class Group(click.Group):
    """A group of such commands. A key in a misplaced argument is not repeated."""

    command_class = Command
    group_class = type

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            from gateway.core.redaction import redact

            message = error.format_message()
            harmless = redact(message.encode(), ()).decode()
            if harmless == message:
                raise
            raise click.UsageError(harmless, error.ctx) from None


config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration. Without it, config/gateway.toml is read if it is there.",
)

format_option = click.option(
    "--format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table to look at, or JSON for scripts.",
)


usage_format_option = click.option(
    "--format",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="A table to look at, CSV for spreadsheets, or JSON for scripts.",
)


def with_store(
    config: Path | None,
    work: "Callable[[Store, bytes], Awaitable[T]]",
    *,
    create: bool = False,
) -> T:
    """Open the configured store, do `work` with it and the pepper, and close it again.

    Only with `create` is one made where there is none: a command run in the wrong folder would
    answer from an empty store there. Raises ConfigError, StartError, and what `work` raises.
    """
    import asyncio

    from gateway.config.files import load_settings
    from gateway.server.startup import StartError, load_pepper, open_store

    settings, _ = load_settings(config, os.environ)
    place = settings.store.place
    if not create and place.kind == "sqlite" and not Path(place.path).exists():
        raise StartError(
            f"There is no database {place.path} here. 'gateway teams apply' and 'gateway serve' "
            "make it; GATEWAY_STORE_URL names another one."
        )

    async def run() -> T:
        pepper = load_pepper(settings.keys, place)
        store = await open_store(settings, pepper)
        try:
            return await work(store, pepper)
        finally:
            await store.close()

    return asyncio.run(run())


def working_as() -> "Actor":
    """Who this is, for the log of changes: the user of this machine, now."""
    from gateway.tenants.changes import Actor

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in many containers
        user = f"user {os.getuid()}"
    return Actor(f"command line as {user}", time.time())


def note(message: str) -> None:
    """Tell the user something that is not the command's answer."""
    click.echo(message, err=True)


def warn(warnings: "Iterable[Fault]") -> None:
    """Print warnings, one a line."""
    for warning in warnings:
        note(f"warning: {warning}")
