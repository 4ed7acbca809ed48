"""The README and the pages of docs/ and deploy/: links, commands and examples, also as printed."""

import asyncio
import random
import re
import shlex
import shutil
import sqlite3
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import click
import pytest

from gateway.cli.main import gateway
from gateway.config.models import GPT_IMAGE_2
from gateway.config.options import options_of, variable_of
from gateway.config.settings import SECTIONS
from gateway.config.teams_file import read_teams
from gateway.quota.ledger import Ledger
from gateway.stores.sqlite import SqliteStore
from gateway.upstream.sandbox import Sandbox, SandboxSettings
from gateway.upstream.sandbox.pictures import DOT
from tests.support.documents import PAGES, README, WHOLE, blocks, gateway_arguments, shell_lines
from tests.support.process import Program, program
from tests.support.quota_steps import reserve, settle
from tests.support.tools import ROOT

COMMANDS = sorted({words for line in shell_lines(WHOLE) if (words := gateway_arguments(line))})
FURTHER_VARIABLES = {"GATEWAY_CONFIG", "GATEWAY_KEY", "GATEWAY_SANDBOX_API_KEY"}
"""Variables that stand for no option."""


def test_the_readme_is_short_and_has_examples() -> None:
    assert len(README.splitlines()) <= 140
    assert blocks("python")
    assert blocks("toml", WHOLE)
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("arguments", COMMANDS)
def test_every_command_exists_with_its_options(arguments: str) -> None:
    words = arguments.split()
    command: click.Command = gateway
    # A group may be a command by itself: then options follow its name.
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", "\n".join(shell_lines(WHOLE))))
    assert named
    assert named <= targets


def test_the_configuration_can_be_read() -> None:
    for block in blocks("toml", WHOLE):
        if "[teams." in block:
            assert read_teams(block, models={GPT_IMAGE_2.name: GPT_IMAGE_2})
        else:
            assert tomllib.loads(block).keys() <= {*SECTIONS, "models"}


def test_the_quick_start_shows_the_same_client_as_the_readme() -> None:
    (client,) = blocks("python")
    compile(client, "README.md", "exec")
    assert blocks("python", PAGES[ROOT / "docs" / "index.md"]) == [client]


def test_every_environment_variable_exists() -> None:
    options = {section: options_of(struct, section=section) for section, struct in SECTIONS.items()}
    known = {variable_of(section, name) for section in options for name in options[section]}
    named = set(re.findall(r"GATEWAY_[A-Z_]+[A-Z]", WHOLE))
    assert named
    assert named <= known | FURTHER_VARIABLES


def test_every_link_to_a_file_or_heading_works() -> None:
    for page, text in {ROOT / "README.md": README, **PAGES}.items():
        for target, heading in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", text):
            file = page.parent / target if target else page
            assert file.exists(), (page, target)
            assert not heading or heading in headings(file.read_text()), (page, target, heading)


def headings(text: str) -> set[str]:
    """Return the anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_every_file_that_a_text_names_is_there() -> None:
    texts = [WHOLE, *((ROOT / name).read_text() for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]
    named = set(re.findall(r"`((?:gateway|tests|deploy|docs|config)/[\w./-]+)`", "\n".join(texts)))
    architecture = PAGES[ROOT / "docs" / "architecture.md"]
    folders = "cache|cli|config|core|proxy|quota|reporting|server|stores|telemetry|tenants|upstream"
    found = re.findall(rf"`((?:{folders}|web)/[\w./]*)`", architecture)
    named |= {f"gateway/{path}" for path in found}
    assert {path for path in named if not (ROOT / path).exists()} == set()


# -- as printed ---------------------------------------------------------------------------------

PLACEHOLDER = "0123456789ab"
"""Stands for the id of a key."""

UNKNOWN = "4bf92f3577b34da6a3ce929d0e0e4736"
"""The id of a purchase that was charged as unknown."""

NOT_HERE = {"serve", "sandbox", "generate", "alerts"}
"""The first two run until they are stopped, `generate` needs the first, and `alerts test` needs a
receiver. Other tests run them."""


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each gateway command that a line begins with, in their order."""
    lines = [line for line in shell_lines(text) if re.match(r"(\.venv/bin/)?gateway ", line)]
    split = [shlex.split(gateway_arguments(line) or "") for line in lines]
    return [words for words in split if words[0] not in NOT_HERE]


TEXTS = {"README.md": README} | {path.name: text for path, text in PAGES.items()}
WITH_COMMANDS = sorted(name for name, text in TEXTS.items() if commands(text))


def clone(folder: Path) -> None:
    """Copy the files of a clone that the commands need."""
    shutil.copytree(ROOT / "config", folder / "config")


async def buy_unknown(folder: Path) -> None:
    """Charge a purchase of the team "design" as unknown."""
    async with SqliteStore(folder / "data" / "gateway.db") as store:
        ledger = Ledger(store.accounts, random.random)
        await ledger.start()
        await ledger.reserve(reserve(UNKNOWN, "design"))
        await ledger.finish(settle(UNKNOWN, "design", unknown=True))
        await ledger.close()


def test_there_are_commands_to_run() -> None:
    assert sum(len(commands(text)) for text in TEXTS.values()) >= 20


@pytest.mark.parametrize("name", WITH_COMMANDS)
async def test_every_command_of_a_page_runs_in_its_order(tmp_path: Path, name: str) -> None:
    clone(tmp_path)
    (tmp_path / "invoice.csv").write_text("date,amount\n2026-11-01,0\n")
    (tmp_path / "apple.png").write_bytes(DOT)
    operator, ids = Program(tmp_path), list[str]()
    prepared = [["teams", "apply", "config/teams.toml"], ["keys", "create", "--team", "design"]]
    for place, words in enumerate(prepared + commands(TEXTS[name])):
        if place == len(prepared) and UNKNOWN in TEXTS[name]:
            await buy_unknown(tmp_path)
        code, out, err = await operator.command(
            *(ids[-1] if w == PLACEHOLDER else w for w in words)
        )
        assert code == 0, (words, err)
        if words[:2] in (["keys", "create"], ["keys", "rotate"]):
            (key,) = out.splitlines()
            ids += re.findall(r"\Ask-gw-([0-9a-z]+)_", key)


async def test_serving_as_the_readme_says_and_asking_with_its_client(tmp_path: Path) -> None:
    clone(tmp_path)
    async with Sandbox(SandboxSettings(api_key="sk-real", picture="dot")) as sandbox:
        real = {"UPSTREAM_BASE_URL": sandbox.url, "UPSTREAM_API_KEY": "sk-real"}
        async with program(tmp_path, **real) as operator:
            await operator.command("teams", "apply", "config/teams.toml")
            _, key, _ = await operator.command("keys", "create", "--team", "design")
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


async def test_the_teams_in_the_text_can_be_applied(tmp_path: Path) -> None:
    page = PAGES[ROOT / "docs" / "teams-and-keys.md"]
    (tmp_path / "teams.toml").write_text("\n".join(blocks("toml", page)))
    code, _, err = await Program(tmp_path).command("teams", "apply", "teams.toml")
    assert (code, "created: design" in err) == (0, True)


async def test_the_backup_is_a_whole_database(tmp_path: Path) -> None:
    """With SQLite's own backup, which the sqlite3 tool's .backup calls."""
    clone(tmp_path)
    operator = Program(tmp_path)
    await operator.command("teams", "apply", "config/teams.toml")
    (line,) = [line for line in shell_lines(WHOLE) if line.startswith("sqlite3")]
    assert 'sqlite3 data/gateway.db ".backup ' in line
    (tmp_path / "restored").mkdir()
    with (
        closing(sqlite3.connect(tmp_path / "data" / "gateway.db")) as source,
        closing(sqlite3.connect(tmp_path / "restored" / "gateway.db")) as target,
    ):
        source.backup(target)
    restored = Program(tmp_path, STORE_URL="sqlite:restored/gateway.db")
    code, out, _ = await restored.command("teams", "list")
    assert (code, "design" in out) == (0, True)
