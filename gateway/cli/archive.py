"""The commands over the store as a whole: out into an archive, in from one, and a word for a store
that lost what it held.

An export is the only thing on standard output; everything else goes to standard error.
"""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from gateway.cli.base import Group, config_option, note, with_store

_FILE = click.argument(
    "file",
    required=False,
    type=click.Path(path_type=Path, allow_dash=True),
)
_STREAM = Path("-")


@click.group(cls=Group)
def store() -> None:
    """The store as a whole: back it up, move it to another one."""


@store.command("export")
@_FILE
@click.option("--force", is_flag=True, help="Replace FILE where there is one.")
@config_option
def export_store(file: Path | None, force: bool, config: Path | None) -> None:
    """Write teams, keys, budgets, usage and the log of changes to FILE.

    Without FILE, or where it is -, to standard output. Gateways may serve meanwhile: what is
    written is the store as it stood at one moment. FILE must be new; it has the mode 0600 and gets
    its name when all of it is there, also with --force. It has no key in it, only what keys are
    recognised by, and is of no use without the pepper: keep both, and not in the same place.

    \b
    Examples:
      gateway store export /backup/gateway.jsonl
      gateway store export | gzip > gateway.jsonl.gz
    """
    from gateway.stores.archive import export_store
    from gateway.stores.archive_format import summary

    # Never among the lines of an export that somebody reads as it comes.
    shown = file not in (None, _STREAM) or not sys.stdout.isatty()
    with _writing_to(file, force) as output, bytes_done("exporting", shown=shown) as done:

        def write(lines: bytes) -> None:
            output.write(lines)
            done(len(lines))

        counts = with_store(
            config, lambda store, _: export_store(store.archive, write, time.time())
        )
    note(f"exported: {summary(counts)}")


@store.command("import")
@_FILE
@config_option
def import_store(file: Path | None, config: Path | None) -> None:
    """Take over what 'store export' wrote to FILE.

    Without FILE, or where it is -, from standard input. The store must be empty, and the pepper
    the one that the keys were made with. Either everything is taken over or nothing. Stop all
    gateways before the export that you move with, and start them with the new store after this.

    \b
    Examples:
      gateway store import /backup/gateway.jsonl
      gunzip -c gateway.jsonl.gz | GATEWAY_STORE_URL=redis://10.0.0.5 gateway store import
    """
    import asyncio

    from gateway.config.files import load_settings
    from gateway.server.startup import load_kept_pepper, unopened_store
    from gateway.stores.archive import Archive
    from gateway.stores.archive_format import summary

    settings, _ = load_settings(config, os.environ)
    pepper = load_kept_pepper(settings.keys)
    with _reading_from(file) as lines, bytes_done("importing", _size(lines)) as done:
        archive = Archive(lines, pepper, done)  # before a store is made for it

        async def restore() -> Mapping[str, int]:
            async with unopened_store(settings) as store:
                return await archive.restore(store.archive)

        counts = asyncio.run(restore())
    note(f"imported into {settings.store.place.shown}: {summary(counts)}")


@store.command("confirm-reset")
@config_option
def confirm_reset(config: Path | None) -> None:
    """Accept that the Redis of the store lost what it held.

    Gateways refuse all purchases where it was emptied while they ran, because every budget would
    begin anew. After this they go on with what is there now. Better than that is mostly to stop
    them and to import a back-up.
    """
    from gateway.config.files import load_settings
    from gateway.tenants.changes import OperationError

    settings, _ = load_settings(config, os.environ)
    if settings.store.place.kind == "sqlite":
        raise OperationError(
            "A database file needs no such word: one that was deleted or replaced is never taken "
            "for the one that was opened. Restart the gateway to go on with the file that is there."
        )
    if with_store(config, lambda store, _: store.confirm_reset()):
        note(f"confirmed: gateways go on with what {settings.store.place.shown} holds now")
    else:
        note("There is nothing to confirm: gateways go by what the store holds already.")


# -- files --------------------------------------------------------------------------------------


@contextmanager
def _writing_to(file: Path | None, force: bool) -> Iterator[BinaryIO]:
    from gateway.stores.archive import new_file
    from gateway.tenants.changes import OperationError

    if file in (None, _STREAM):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if file.exists() and not force:
        raise OperationError(f"The file {file} is there already: take another name, or --force.")
    with _naming(file), new_file(file) as output:
        yield output


@contextmanager
def _reading_from(file: Path | None) -> Iterator[BinaryIO]:
    if file is None and sys.stdin.isatty():
        raise click.UsageError("Name the FILE to import, or pipe one in.")
    if file in (None, _STREAM):
        yield sys.stdin.buffer
        return
    with _naming(file), file.open("rb") as lines:
        yield lines


def _size(file: BinaryIO) -> int | None:
    """How many bytes a file has; None for a pipe."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    from gateway.tenants.changes import OperationError

    try:
        yield
    except OSError as error:
        raise OperationError(
            f"The file {file} cannot be used: {error.strerror or error}."
        ) from None


Tell = Callable[[int], object]


@contextmanager
def bytes_done(doing: str, size: int | None = None, *, shown: bool = True) -> Iterator[Tell]:
    """What to tell how many more bytes are done, of `size` in all if that is known."""
    if not shown or not sys.stderr.isatty():
        yield lambda number: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=size)
        yield lambda number: progress.advance(task, number)


@contextmanager
def under_way(doing: str) -> Iterator[None]:
    """That something is being done of which nobody knows how long it takes."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(doing):
        yield
