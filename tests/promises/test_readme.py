"""The README's commands exist, its teams can be applied, its configuration names are right.

What holds for its commands and names holds for those of the pages under deploy/ too.
"""

import re
import tomllib

import click
import pytest

from gateway.cli.main import gateway
from gateway.config.models import GPT_IMAGE_2
from gateway.config.options import options_of, variable_of
from gateway.config.settings import SECTIONS
from gateway.config.teams_file import read_teams
from tests.support.documents import PAGES, README, ROOT, WHOLE, blocks, command_lines


def commands() -> list[list[str]]:
    """The words of each gateway command, comments cut off."""
    found = [re.sub(r"\s#.*", "", line) for line in command_lines(WHOLE)]
    return [line.partition(".venv/bin/gateway ")[2].split() for line in found]


def test_there_is_something_to_look_at() -> None:
    assert len(commands()) >= 8
    assert blocks("toml")
    assert blocks("python")
    assert len(README.splitlines()) <= 301


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_exists_with_its_options(words: list[str]) -> None:
    command: click.Command = gateway
    # A group may be a command by itself: then options follow its name.
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in command.commands, name
        command = command.commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", "\n".join(blocks("sh", WHOLE))))
    assert named
    assert named <= targets


def test_the_teams_can_be_applied() -> None:
    for block in blocks("toml"):
        if "[teams." in block:
            assert read_teams(block, models={GPT_IMAGE_2.name: GPT_IMAGE_2})
        else:
            assert tomllib.loads(block).keys() <= {*SECTIONS, "models"}


def test_the_client_is_python() -> None:
    for block in blocks("python"):
        compile(block, "README.md", "exec")


def test_every_environment_variable_and_option_exists() -> None:
    options = {section: options_of(struct, section=section) for section, struct in SECTIONS.items()}
    known = {variable_of(section, name) for section in options for name in options[section]}
    known |= {"GATEWAY_SANDBOX_API_KEY"}
    named = set(re.findall(r"GATEWAY_[A-Z_]+[A-Z]", WHOLE)) - {"GATEWAY_"}
    assert named
    assert named <= known


def test_every_file_they_lead_to_is_there() -> None:
    for page, text in {ROOT / "README.md": README, **PAGES}.items():
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), (page, target)
