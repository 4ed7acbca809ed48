"""Long commands tell on a terminal how far they are, and nothing in a pipe."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import CLEAN
from tests.support.tools import ROOT

SECONDS = 60
"""How long a command may take, on a busy machine."""


class Terminal:
    """Runs commands of the gateway in a folder, their standard error a terminal or a pipe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environ = CLEAN | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}

    def run(self, *arguments: str) -> tuple[bytes, bytes]:
        """What it printed on standard output, and on its standard error, a pipe."""
        ended = self._run(*arguments, stderr=subprocess.PIPE)
        return ended.stdout, ended.stderr

    def show(self, *arguments: str) -> tuple[bytes, bytes]:
        """What it printed on standard output, and what a terminal was given to show."""
        ours, theirs = pty.openpty()
        try:
            ended = self._run(*arguments, stderr=theirs)
        finally:
            os.close(theirs)
        shown = bytearray()
        try:
            while piece := os.read(ours, 65_536):
                shown += piece
        except OSError:  # the other end is closed, and all is read
            pass
        finally:
            os.close(ours)
        return ended.stdout, bytes(shown)

    def _run(self, *arguments: str, stderr: int) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            timeout=SECONDS,
            check=True,
        )


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    (tmp_path / "teams.toml").write_text("[teams.red]\n")
    terminal = Terminal(tmp_path)
    terminal.run("teams", "apply", "teams.toml")
    return terminal


def test_an_export_shows_how_much_it_wrote(terminal: Terminal) -> None:
    out, shown = terminal.show("store", "export", "all.jsonl")
    assert out == b""
    assert re.search(rb"exporting.*\d+.* bytes", shown)
    assert b"exported: " in shown.splitlines()[-1]


def test_an_import_shows_how_much_of_all_it_read(terminal: Terminal, tmp_path: Path) -> None:
    terminal.run("store", "export", "all.jsonl")
    (tmp_path / "data" / "gateway.db").unlink()
    _, shown = terminal.show("store", "import", "all.jsonl")
    size = f"{(tmp_path / 'all.jsonl').stat().st_size / 1_000:.1f}"
    assert re.search(rf"importing.*{size}/{size} kB", shown.decode())


def test_a_report_shows_that_it_is_being_read(terminal: Terminal) -> None:
    _, shown = terminal.show("usage", "--format", "json")
    assert b"reading usage" in shown


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [(("store", "export"), b'{"kind":'), (("usage", "--format", "json"), b"[]\n")],
    ids=["export", "usage"],
)
def test_nothing_but_the_answer_is_in_a_pipe(
    terminal: Terminal, arguments: tuple[str, ...], answer: bytes
) -> None:
    out, err = terminal.run(*arguments)
    assert out.startswith(answer)
    assert not re.search(rb"\x1b|exporting|reading", out + err)
