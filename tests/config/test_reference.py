"""docs/configuration.md and config/gateway.toml agree with the declarations of the options."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from docs.reference import (
    MARKER,
    PAGE,
    TEAM_TABLES,
    Tables,
    gateway_tables,
    reference,
)
from gateway.config.load import read_settings
from gateway.config.models import KNOWN_TOKEN_PRICES, TokenPrices
from gateway.config.options import descriptions
from gateway.config.settings import OPTIONS, Settings
from gateway.proxy.image_request import read_request

ROOT = Path(__file__).parents[2]
TEAMS = (ROOT / "config" / "teams.toml").read_text(encoding="utf-8")
SHIPPED = (ROOT / "config" / "gateway.toml").read_text(encoding="utf-8")
UNCOMMENTED = re.sub(r"^#(?=[^# ])", "", SHIPPED, flags=re.MULTILINE)
"""The file with the options and tables that it only has as examples."""

NAMED = re.compile(r'^(models|teams|admin\.tokens|alerts\.webhooks)\.("[^"]*"|\w+)')


def comments(text: str) -> dict[tuple[str, str], str]:
    """The comment above each option of a file, by table and name."""
    found, table, lines = dict[tuple[str, str], str](), "", list[str]()
    for line in text.splitlines():
        if secret := re.match(r"# Only in the environment: GATEWAY_[A-Z]+_(\w+)", line):
            found[table, secret[1].lower()] = " ".join(lines)
        elif line.startswith("# "):
            lines.append(line.removeprefix("# "))
            continue
        elif header := re.match(r"\[(.*)\]", line):
            table = NAMED.sub(r"\1.NAME", header[1])
        elif (option := re.match(r"(\w+) = ", line)) and lines:
            found[table, option[1]] = " ".join(lines)
        lines = []
    return found


def test_the_page_is_up_to_date() -> None:
    """Run `python -m docs.reference` if this fails."""
    assert (ROOT / PAGE).read_text(encoding="utf-8").partition(MARKER)[1:] == (
        MARKER,
        reference().removeprefix(MARKER),
    )


@pytest.mark.parametrize(
    ("text", "tables"),
    [(UNCOMMENTED, gateway_tables()), (TEAMS, TEAM_TABLES)],
    ids=["gateway.toml", "teams.toml"],
)
def test_the_shipped_files_describe_every_option_as_the_page_does(
    text: str, tables: Tables
) -> None:
    assert comments(text) == {
        (table, name): descriptions(struct)[name]
        for table, (options, struct) in tables.items()
        for name in options
    }


def test_the_shipped_file_has_the_defaults() -> None:
    assert read_settings(SHIPPED, {}) == (Settings(), [])
    tables = tomllib.loads(SHIPPED)
    for section, options in OPTIONS.items():
        with_default = {
            name
            for name, option in options.items()
            if option.default is not None and "gone" not in option.notes
        }
        assert tables.get(section, {}).keys() == with_default - {"base_url"}


def test_the_examples_in_the_shipped_file_are_valid() -> None:
    text = UNCOMMENTED.replace('\nbilling = "table"', '\nbilling = "tokens"')
    found, warnings = read_settings(text, {})
    assert not warnings
    assert found.upstream.base_url
    assert found.admin.tokens["grafana"].role == "viewer"
    assert found.alerts.webhooks["design"].teams == ("design",)
    assert found.limits.images_per_day
    assert found.models["gpt-image-2"].sizes.allowed
    assert "dall-e-3" in found.models["gpt-image-2"].aliases
    for sent in ({"quality": "standard", "style": "vivid"}, {"size": "512x512"}):
        body = json.dumps({"model": "dall-e-3", "prompt": "a cat", **sent}).encode()
        request = read_request(body, found.models, found.default_model)
        assert request.body.keys() == {"model", "prompt", "size", "n"} | sent.keys() - {"style"}
        assert (request.model, request.size) == ("gpt-image-2", "1024x1024")
        assert request.quality in (None, "medium")
    assert found.models["gpt-image-2"].token_prices == TokenPrices(
        **KNOWN_TOKEN_PRICES["gpt-image-2"], text_output=30_000_000
    )
