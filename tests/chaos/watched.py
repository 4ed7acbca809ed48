"""The program `gateway`, which prints the number of its tasks on SIGUSR1."""

import asyncio
import signal
from types import FrameType

import click

from gateway.__main__ import main


def _print_tasks(number: int, frame: FrameType | None) -> None:
    click.echo(len(asyncio.all_tasks()))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _print_tasks)
    main()
