"""Programs that check files, installed beside Python."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BESIDE_PYTHON = Path(sys.executable).parent

HOME = TemporaryDirectory(prefix="gateway-tests-")
"""The home of programs, removed when the tests end: some leave a cache there."""

SECONDS = 300
"""How long a program may take on a busy machine."""


def follows(schema: str, file: Path) -> None:
    """Check a file by a schema of check-jsonschema.

    In this process, because its own start takes seconds.
    """
    from check_jsonschema import main

    done = CliRunner().invoke(main, ["--builtin-schema", schema, str(file)])
    assert done.exit_code == 0, done.output


def passes(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    """Run a command that must succeed; returns all its output."""
    path = f"{BESIDE_PYTHON}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": path, "HOME": HOME.name, "NO_COLOR": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
