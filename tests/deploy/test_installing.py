"""The gateway installed as users install it: by the steps of deploy/Dockerfile, and from its wheel.

They build the project and put it into a fresh environment, without a container engine.
"""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from tests.deploy.test_dockerfile import BUILD, sources
from tests.support.compose import Image
from tests.support.rig import Client
from tests.support.steps import until
from tests.support.tools import ROOT

INSTALLED = "/opt/gateway"

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
                env={
                    "GATEWAY_SERVER_PORT": "0",
                    "GATEWAY_SERVER_ADMIN_PORT": "0",
                    "GATEWAY_SERVER_DRAIN_NOTICE_SECONDS": "0",
                },
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
        got = await Client(session, url).generate(key)
        assert got.status == 200
        return b64decode(got.json["data"][0]["b64_json"])


# -- the Dockerfile's steps ----------------------------------------------------------------------


def steps() -> list[str]:
    """The commands of the first stage."""
    return re.findall(r"^RUN (.*)$", BUILD, flags=re.MULTILINE)


def build(folder: Path, **arguments: str) -> Path:
    """Run the first stage in a folder that stands for an empty container.

    `arguments` are those of --build-arg. Returns the environment that it makes. The test is skipped
    if packages cannot be downloaded.
    """
    source, installed = folder / "src", folder / "opt"
    copy_sources(source, sources())
    tools = folder / "tools"
    new_environment(tools)
    defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", BUILD, flags=re.MULTILINE))
    assert arguments.keys() <= defaults.keys()
    path = f"{tools / 'bin'}:{os.environ['PATH']}"
    for step in steps():
        command = step.replace(INSTALLED, shlex.quote(str(installed)))
        run_step(["/bin/sh", "-e", "-c", command], source, PATH=path, **{**defaults, **arguments})
    return installed


@pytest.mark.exhaustive  # its short sisters: the tests of its form and its sources
@pytest.mark.parametrize(
    ("lock", "extra"),
    [
        ("requirements.lock", None),
        ("requirements-otel.lock", "gateway.telemetry.otel"),
        ("requirements-s3.lock", "obstore"),
    ],
)
async def test_the_image_serves_a_picture(tmp_path: Path, lock: str, extra: str | None) -> None:
    installed = await asyncio.to_thread(build, tmp_path, LOCK=lock)
    await serve_a_picture([str(installed / "bin" / Image().command[0]), *Image().command[1:]])
    for module in ("gateway.telemetry.otel", "obstore"):
        process = await asyncio.create_subprocess_exec(
            *(installed / "bin" / "python", "-c", f"import {module}"),
            cwd=tmp_path,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert (await process.wait() == 0) is (module == extra)


# -- the wheel ----------------------------------------------------------------------------------


def install(folder: Path) -> Path:
    """Build the wheel and install it. Returns the environment."""
    source, installed = folder / "src", folder / "installed"
    copy_sources(source, ("pyproject.toml", "README.md", "LICENSE", "gateway"))
    new_environment(installed)
    pip = str(installed / "bin" / "pip")

    def run(*words: str) -> None:
        run_step([pip, *words], source)

    run("wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", ".")
    (wheel,) = (source / "dist").iterdir()
    run("install", "--quiet", "--only-binary", ":all:", str(wheel))
    run("check")
    return installed


@pytest.mark.exhaustive
async def test_the_wheel_serves_a_picture_with_its_dependencies_alone(tmp_path: Path) -> None:
    installed = await asyncio.to_thread(install, tmp_path)
    await serve_a_picture([str(installed / "bin" / "gateway"), "serve"])
