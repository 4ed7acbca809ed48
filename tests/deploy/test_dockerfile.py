"""deploy/Dockerfile: its form, its content, and its steps run without a container engine."""

import asyncio
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.support.compose import Image
from tests.support.installed import copy_sources, new_environment, run_step, serve_a_picture
from tests.support.rig import Rig
from tests.support.tools import DEPLOY, ROOT, passes

TEXT = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
BUILD, _, RUN = TEXT.rpartition("\nFROM ")
INSTALLED = "/opt/gateway"


def test_hadolint_finds_nothing_wrong() -> None:
    passes("hadolint", DEPLOY / "Dockerfile")


def test_it_runs_as_a_numeric_user() -> None:
    (user,) = re.findall(r"^USER (.*)$", RUN, flags=re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_no_image_is_tagged_latest() -> None:
    images = re.findall(r"^FROM (\S+)", TEXT, flags=re.MULTILINE)
    assert len(images) == 2
    assert all(re.fullmatch(r"python:\d+\.\d+-slim-\w+", image) for image in images)


def sources() -> list[str]:
    """The paths that are copied from the repository."""
    copied = re.findall(r"^COPY (?!--from)(.*)$", TEXT, flags=re.MULTILINE)
    return [source for words in copied for source in words.split()[:-1]]


def test_dockerignore_passes_only_the_copied_files() -> None:
    first, *rest = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert first == "*"
    let_through = {line.removeprefix("!") for line in rest if line.startswith("!")}
    # Of the configuration just the files of the repository: a secret may lie beside them.
    assert {each for each in let_through if each.startswith("config")} == {
        "config/gateway.toml",
        "config/teams.toml",
    }
    assert {each.partition("/")[0] for each in let_through} == set(sources())
    assert all((ROOT / source).exists() for source in let_through)


async def test_its_health_check_fails_without_a_gateway(rig: Rig) -> None:
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
    ("lock", "can_trace"), [("requirements.lock", False), ("requirements-otel.lock", True)]
)
async def test_the_image_serves_a_picture(tmp_path: Path, lock: str, can_trace: bool) -> None:
    installed = await asyncio.to_thread(build, tmp_path, LOCK=lock)
    await serve_a_picture([str(installed / "bin" / Image().command[0]), *Image().command[1:]])
    process = await asyncio.create_subprocess_exec(
        *(installed / "bin" / "python", "-c", "import gateway.telemetry.otel"),
        cwd=tmp_path,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert (await process.wait() == 0) is can_trace
