"""deploy/Dockerfile: its form, what gets into it, and its steps done without a container engine."""

import asyncio
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.support.compose import Image
from tests.support.money import until
from tests.support.rig import Got, Rig
from tests.support.tools import DEPLOY, ROOT, passes

TEXT = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
BUILD, _, RUN = TEXT.rpartition("\nFROM ")
INSTALLED = "/opt/gateway"

STEP_SECONDS = 240


def test_hadolint_finds_nothing_wrong() -> None:
    passes("hadolint", DEPLOY / "Dockerfile")


def test_it_runs_as_a_user_by_number() -> None:
    (user,) = re.findall(r"^USER (.*)$", RUN, flags=re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_no_image_is_the_latest() -> None:
    images = re.findall(r"^FROM (\S+)", TEXT, flags=re.MULTILINE)
    assert len(images) == 2
    assert all(re.fullmatch(r"python:\d+\.\d+-slim-\w+", image) for image in images)


def sources() -> list[str]:
    """What is copied from the repository."""
    copied = re.findall(r"^COPY (?!--from)(.*)$", TEXT, flags=re.MULTILINE)
    return [source for words in copied for source in words.split()[:-1]]


def test_only_what_is_copied_gets_past_dockerignore() -> None:
    first, *rest = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert first == "*"
    let_through = {line.removeprefix("!") for line in rest if line.startswith("!")}
    assert let_through == set(sources())
    assert all((ROOT / source).exists() for source in let_through)


async def test_its_health_check_tells_a_gateway_from_none(rig: Rig) -> None:
    port = rig.gateway.admin_url.rpartition(":")[2]

    async def check(port: str) -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *Image().health[1:],
            env={**os.environ, "GATEWAY_SERVER_ADMIN_PORT": port},
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait()

    assert await check(port) == 0
    await rig.gateway.stop()
    assert await check(port) == 1


# -- its steps ----------------------------------------------------------------------------------


def steps() -> list[str]:
    """What is run in the first stage."""
    return re.findall(r"^RUN (.*)$", BUILD, flags=re.MULTILINE)


def build(folder: Path) -> Path:
    """Do what the first stage does, in a folder in the place of an empty container.

    The environment that it makes. Where packages cannot be had the test is skipped.
    """
    source, installed = folder / "src", folder / "opt"
    source.mkdir()
    for name in sources():
        real = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        if real.is_dir():
            shutil.copytree(real, source / name, ignore=ignored)
        else:
            shutil.copy(real, source / name)
    tools = folder / "tools"
    subprocess.run([sys.executable, "-m", "venv", tools], check=True, timeout=STEP_SECONDS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environ = {**clean, "PATH": f"{tools / 'bin'}:{os.environ['PATH']}", "PIP_RETRIES": "1"}
    reached: list[str | Path] = [
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        folder,
        "flit-core",
    ]
    if subprocess.run(reached, env=environ, check=False, timeout=STEP_SECONDS).returncode:
        pytest.skip("the package registry cannot be reached")
    for step in steps():
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", step.replace(INSTALLED, shlex.quote(str(installed)))],
            cwd=source,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    return installed


async def picture(url: str, key: str) -> bytes:
    """A picture of the gateway's, as a team's client gets it."""
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


async def test_the_installed_wheel_serves_a_picture(tmp_path: Path) -> None:
    installed = await asyncio.to_thread(build, tmp_path)
    folder, out = tmp_path / "srv", tmp_path / "out"
    folder.mkdir()
    with out.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(installed / "bin" / Image().command[0]),
            *Image().command[1:],
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
        assert (await picture(url[1], key[1])).startswith(b"\x89PNG")
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
