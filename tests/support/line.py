"""The command line in a folder, run in this process or as a program."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from click.testing import Result

from tests.support.environment import CLEAN
from tests.support.process import invoke
from tests.support.tools import ROOT

TEAMS = """
[teams.design]
max_n = 4
[teams.design.limits]
images_per_day = 200
[teams.research]
"""
PROGRAM = [sys.executable, "-m", "gateway"]
CODE = ROOT


class Line:
    """A command line in a folder with a teams.toml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = CLEAN | {"PYTHONPATH": str(CODE), "GATEWAY_STORE_URL": "sqlite:data/my.db"}
        (folder / "teams.toml").write_text(TEAMS)

    def click(self, *arguments: str, stdin: str | None = None, **environ: str) -> Result:
        """Run a command in this process."""
        return invoke(self.folder, arguments, {**self.environ, **environ}, stdin)

    def run(
        self,
        *arguments: str,
        stdin: str = "",
        before: Callable[[], None] | None = None,
        program: Sequence[str] = PROGRAM,
        **environ: str,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a program. `before` runs in the new process."""
        return subprocess.run(
            [*program, *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=before,
        )

    def show(self, *arguments: str, stream: str = "stderr") -> str:
        """Run a command that must succeed, and return what a terminal shows of this stream."""
        ours, theirs = pty.openpty()
        try:
            subprocess.run(
                [*PROGRAM, *arguments],
                cwd=self.folder,
                env=self.environ | {"COLUMNS": "60", "TERM": "xterm"},
                stdin=subprocess.DEVNULL,
                stdout=theirs if stream == "stdout" else subprocess.DEVNULL,
                stderr=theirs if stream == "stderr" else subprocess.DEVNULL,
                timeout=60,
                check=True,
            )
            os.close(theirs)
            shown = bytearray()
            with suppress(OSError):  # raised at the end, because the other side is closed
                while piece := os.read(ours, 65_536):
                    shown += piece
            return shown.decode()
        finally:
            os.close(ours)

    def start(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Start a program that runs until it is stopped."""
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def key(self, team: str = "design") -> str:
        """A new key."""
        return self.click("keys", "create", "--team", team).stdout.strip()


def ids(line: Line) -> dict[str, str]:
    """The keys' states by id."""
    listed = json.loads(line.click("keys", "list", "--format", "json").stdout)
    return {key["id"]: key["state"] for key in listed}
