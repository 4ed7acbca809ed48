"""The commands, configuration and links of the README and of the pages under docs/ and deploy/."""

import re
import tomllib

import click
import pytest

from gateway.cli.main import gateway
from gateway.config.models import GPT_IMAGE_2
from gateway.config.options import options_of, variable_of
from gateway.config.settings import SECTIONS
from gateway.config.teams_file import read_teams
from tests.support.documents import PAGES, README, WHOLE, blocks, gateway_arguments, shell_lines
from tests.support.tools import ROOT

COMMANDS = sorted({words for line in shell_lines(WHOLE) if (words := gateway_arguments(line))})
FURTHER_VARIABLES = {"GATEWAY_CONFIG", "GATEWAY_SANDBOX_API_KEY"}
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
