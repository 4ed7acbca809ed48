"""The commands `gateway store`: export, import, and confirm that the store lost its data.

An export is the only thing on standard output. Messages and progress go to standard error.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.base import Group, config_option, note, read_settings, with_store
from gateway.server.startup import load_kept_pepper, unopened_store
from gateway.stores import archive
from gateway.stores.archive import Archive, new_file, summary
from gateway.tenants.changes import OperationError

_FILE = click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
_STREAM = Path("-")


@click.group(cls=Group)
def store() -> None:
    """Back up the store, or move it to another one."""


@store.command("export")
@_FILE
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@config_option
def export_store(file: Path | None, force: bool, config: Path | None) -> None:
    """Write the whole store to FILE.

    This exports teams, keys, budgets, usage and the audit log. Without FILE, or with -, it writes
    to standard output. Gateways may serve meanwhile: the export is a snapshot of one moment.

    FILE must be new, unless --force replaces it. It has mode 0600 and appears only when the export
    is complete. It contains hashes of keys but no keys. Keys work only with the pepper: back up
    both, in different places.

    \b
    Examples:
      gateway store export /backup/gateway.jsonl
      gateway store export | gzip > gateway.jsonl.gz
    """
    # Progress would disturb an export that is printed in the same terminal.
    shown = file not in (None, _STREAM) or not sys.stdout.isatty()
    with _writing_to(file, force) as output, _progress(shown=shown) as progress:
        task = progress.add_task("exporting", total=None)

        def write(lines: bytes) -> None:
            output.write(lines)
            progress.advance(task, len(lines))

        counts = with_store(
            config, lambda store, _: archive.export_store(store.archive, write, time.time())
        )
    note(f"exported: {summary(counts)}")


@store.command("import")
@_FILE
@config_option
def import_store(file: Path | None, config: Path | None) -> None:
    """Read an export from FILE into an empty store.

    Without FILE, or with -, read from standard input. The pepper must be the one that the keys
    were created with. The import is complete, or changes nothing. To move a store, stop all
    gateways, export, import, and start them with the new store.

    \b
    Examples:
      gateway store import /backup/gateway.jsonl
      gunzip -c gateway.jsonl.gz | GATEWAY_STORE_URL=redis://10.0.0.5 gateway store import
    """
    settings = read_settings(config)
    pepper = load_kept_pepper(settings.keys)
    with _reading_from(file) as lines, _progress() as progress:
        task = progress.add_task("importing", total=os.fstat(lines.fileno()).st_size or None)
        # Read the archive's head first: a file that is no archive must not create a store.
        coming = Archive(lines, pepper, lambda number: progress.advance(task, number))

        async def restore() -> Mapping[str, int]:
            async with unopened_store(settings) as store:
                return await coming.restore(store.archive)

        counts = asyncio.run(restore())
    note(f"imported into {settings.store.place.shown}: {summary(counts)}")


@store.command("confirm-reset")
@config_option
def confirm_reset(config: Path | None) -> None:
    """Accept that the store's Redis lost its data.

    If Redis was emptied while gateways ran, they refuse all purchases, because every budget would
    start again at zero. This command lets them continue with the data that Redis has now. Usually
    it is better to stop the gateways and import a backup.
    """
    settings = read_settings(config)
    if settings.store.place.kind == "sqlite":
        raise OperationError(
            "A database file needs no confirmation. Restart the gateway to continue with the file "
            "that is there."
        )
    if with_store(config, lambda store, _: store.confirm_reset()):
        note(f"confirmed: gateways continue with the data in {settings.store.place.shown}")
    else:
        note("There is nothing to confirm: the store did not lose its data.")


# -- files --------------------------------------------------------------------------------------


@contextmanager
def _writing_to(file: Path | None, force: bool) -> Iterator[BinaryIO]:
    if file in (None, _STREAM):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if file.exists() and not force:
        raise OperationError(f"The file {file} exists. Choose another name, or use --force.")
    with _file_errors(file), new_file(file) as output:
        yield output


@contextmanager
def _reading_from(file: Path | None) -> Iterator[BinaryIO]:
    if file is None and sys.stdin.isatty():
        raise click.UsageError("Name the FILE to import, or pipe one in.")
    if file in (None, _STREAM):
        yield sys.stdin.buffer
        return
    with _file_errors(file), file.open("rb") as lines:
        yield lines


@contextmanager
def _file_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OperationError(f"Cannot use the file {file}: {error.strerror or error}.") from None


def _progress(*, shown: bool = True) -> Progress:
    """Return a progress bar of bytes. It only shows in a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not (shown and sys.stderr.isatty()),
    )
