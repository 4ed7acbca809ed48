"""The README's commands and its client, run as they stand, one after the other."""

import asyncio
import re
import shlex
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.documents import README, ROOT, WHOLE, blocks, command_lines
from tests.support.program import Program, program

PLACEHOLDER = "0123456789ab"


def commands() -> list[list[str]]:
    """The arguments of each gateway command, in the README's order."""
    told = [line for line in command_lines(README) if line.startswith(".venv/")]
    return [shlex.split(line, comments=True)[1:] for line in told]


def clone(folder: Path) -> None:
    """What of a clone the commands need."""
    shutil.copytree(ROOT / "config", folder / "config")


async def test_every_command_runs_in_the_readmes_order(tmp_path: Path) -> None:
    clone(tmp_path)
    operator, ids, ran = Program(tmp_path), list[str](), 0
    for words in commands():
        if words == ["serve"]:
            continue  # below
        code, out, err = await operator.run(*(ids[-1] if w == PLACEHOLDER else w for w in words))
        assert code == 0, (words, err)
        if words[:2] in (["keys", "create"], ["keys", "rotate"]):
            (key,) = out.splitlines()
            ids += re.findall(r"\Ask-gw-([0-9a-z]+)_", key)
        ran += 1
    assert ran >= 12


async def test_serving_as_the_readme_says_and_asking_with_its_client(tmp_path: Path) -> None:
    clone(tmp_path)
    async with Sandbox(SandboxSettings(api_key="sk-real", picture="dot")) as sandbox:
        real = {"UPSTREAM_BASE_URL": sandbox.url, "UPSTREAM_API_KEY": "sk-real"}
        async with program(tmp_path, **real) as operator:
            await operator.run("teams", "apply", "config/teams.toml")
            _, key, _ = await operator.run("keys", "create", "--team", "design")
            await operator.start("serve")
            url, _ = await operator.listening()
            (client,) = blocks("python")
            client = client.replace("http://127.0.0.1:8080", url).replace("sk-gw-...", key.strip())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", client), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 0
            assert int(out) > 0  # characters of base64
    assert sandbox.counts.images_drawn == 1


async def test_the_teams_in_its_text_can_be_applied(tmp_path: Path) -> None:
    (tmp_path / "teams.toml").write_text("\n".join(blocks("toml")))
    code, _, err = await Program(tmp_path).run("teams", "apply", "teams.toml")
    assert (code, "created: design" in err) == (0, True)


async def test_the_backup_is_a_whole_database(tmp_path: Path) -> None:
    """With SQLite's own backup, which is what the sqlite3 tool's .backup calls."""
    clone(tmp_path)
    operator = Program(tmp_path)
    await operator.run("teams", "apply", "config/teams.toml")
    (line,) = [
        line for line in "\n".join(blocks("sh", WHOLE)).splitlines() if line.startswith("sqlite3")
    ]
    assert 'sqlite3 data/gateway.db ".backup ' in line
    (tmp_path / "restored").mkdir()
    with (
        closing(sqlite3.connect(tmp_path / "data" / "gateway.db")) as source,
        closing(sqlite3.connect(tmp_path / "restored" / "gateway.db")) as target,
    ):
        source.backup(target)
    restored = Program(tmp_path, STORE_URL="sqlite:restored/gateway.db")
    code, out, _ = await restored.run("teams", "list")
    assert (code, "design" in out) == (0, True)
