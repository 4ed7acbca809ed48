"""How far a long command is, on a terminal; nothing at all in a pipe or a file.

It is shown on standard error and wiped away at the end: what a command prints stays the same.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
