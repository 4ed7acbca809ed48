"""The command line: one module for each group of commands.

This module itself imports nothing of the gateway, so that a Ctrl-C while the others load ends the
process. Python raises KeyboardInterrupt wherever it happens to be; inside one of the import
system's own callbacks the interrupt is printed as "ignored" and lost.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading_modules() -> Iterator[None]:
    """Let SIGINT end the process at once, by the signal; an ignored SIGINT stays ignored."""
    former = signal.getsignal(signal.SIGINT)
    if former is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
