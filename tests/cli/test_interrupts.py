"""Ctrl-C while the command line loads its modules."""

import signal
import subprocess
import sys

import pytest

INTERRUPTED_AT = """
import signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["gateway", "serve", "--demo"]
signal.signal(signal.SIGINT, signal.default_int_handler)
from gateway.__main__ import main
main()
"""


def start(module: str) -> subprocess.Popen[bytes]:
    """A program that is interrupted while it imports the module."""
    code = INTERRUPTED_AT.format(module=module)
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    "module", ["gateway.cli.main", "gateway.config.files", "gateway.server.run"]
)
def test_ctrl_c_is_not_lost_while_modules_are_loaded(module: str) -> None:
    """Not even where Python would only print it: it is no exception then."""
    with start(module) as program:
        _, shown = program.communicate(timeout=30)
    assert (program.returncode, shown) == (-signal.SIGINT, b"")


IGNORING = """
import signal
from gateway.cli import loading_modules
signal.signal(signal.SIGINT, signal.SIG_IGN)
with loading_modules():
    signal.raise_signal(signal.SIGINT)
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""


def test_who_ignores_it_goes_on_ignoring_it() -> None:
    subprocess.run([sys.executable, "-c", IGNORING], check=True)
