"""The gateway installed as users install it: built, and put into a fresh environment."""

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from tests.support.rig import Got
from tests.support.steps import until
from tests.support.tools import ROOT

ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
    "PIP_RETRIES": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
"""The environment of pip."""


def copy_sources(folder: Path, names: Iterable[str]) -> None:
    """Copy files and folders of the repository into a new folder."""
    folder.mkdir()
    for name in names:
        real = ROOT / name
        if real.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(real, folder / name, ignore=ignored)
        else:
            shutil.copy(real, folder / name)


def new_environment(folder: Path) -> None:
    """Make an environment with pip alone. The test is skipped if packages cannot be downloaded."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=300)
    reached: list[str | Path] = [
        *(folder / "bin" / "pip", "download", "--quiet", "--no-deps", "--dest", folder / "reached"),
        "flit-core",
    ]
    if subprocess.run(reached, env=ENVIRON, check=False, timeout=300).returncode:
        pytest.skip("the package registry cannot be reached")


def run_step(command: Sequence[str], folder: Path, **environ: str) -> None:
    """Run a step of a build in `folder`, which must succeed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**ENVIRON, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout


async def serve_a_picture(command: Sequence[str]) -> None:
    """Start a demo gateway in an empty folder, buy a picture, and stop it."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        with out.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                "--demo",
                cwd=folder,
                env={"GATEWAY_SERVER_PORT": "0", "GATEWAY_SERVER_ADMIN_PORT": "0"},
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
        try:
            await until(lambda: "Ctrl-C stops it." in out.read_text(), 60)
            url = re.search(r"Base URL +(\S+)/v1", out.read_text())
            key = re.search(r"Key +(\S+)", out.read_text())
            assert url
            assert key
            assert (await _picture(url[1], key[1])).startswith(b"\x89PNG")
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 60) == 0


async def _picture(url: str, key: str) -> bytes:
    """Get a picture from the gateway as a team's client does."""
    async with aiohttp.ClientSession() as session:
        async with session.post(
            f"{url}/v1/images/generations",
            headers={"Authorization": f"Bearer {key}"},
            json={"prompt": secrets.token_hex(8)},
        ) as response:
            got = await Got.read(response)
        assert got.status == 200
        async with session.get(got.json["data"][0]["url"]) as image:
            return await image.read()
