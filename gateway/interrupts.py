"""Ctrl-C while modules are loaded.

Python raises KeyboardInterrupt wherever it happens to be. Where that is one of the import system's
own callbacks, the interrupt is printed as "ignored" and lost, and the program goes on.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading_modules() -> Iterator[None]:
    """In here SIGINT ends the process at once, by the signal. A SIGINT that is ignored stays so."""
    former = signal.getsignal(signal.SIGINT)
    if former is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
