"""deploy/Dockerfile: its form and its content. `test_installing.py` runs its steps."""

import asyncio
import os
import re
import sys

from tests.support.compose import Image
from tests.support.rig import Rig
from tests.support.tools import DEPLOY, ROOT, passes

TEXT = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
BUILD, _, RUN = TEXT.rpartition("\nFROM ")


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
