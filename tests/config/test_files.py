"""Configuration files as they are found on the disk."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from gateway.config.files import (
    load_models,
    load_settings,
    load_teams,
    read_file,
    shown_file,
)
from gateway.config.models import GPT_IMAGE_2
from gateway.core.faults import ConfigError

MODELS = {GPT_IMAGE_2.name: GPT_IMAGE_2}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working directory, empty."""
    with chdir(tmp_path):
        yield tmp_path


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_default_file_may_be_missing(folder: Path) -> None:
    settings, warnings = load_settings(None, {"GATEWAY_SERVER_PORT": "81"})
    assert (settings.server.port, warnings) == (81, [])
    assert load_models(None) == MODELS


def test_the_default_file_is_read_if_it_exists(folder: Path) -> None:
    write(folder / "config" / "gateway.toml", "[server]\nport = 82")
    assert load_settings(None, {})[0].server.port == 82
    with pytest.raises(ConfigError) as error:
        load_settings(None, {}, needs_upstream=True)
    assert str(error.value.faults[0]).startswith("config/gateway.toml: [upstream] base_url: needs")


def test_a_file_that_was_named_must_be_there(folder: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_settings(Path("my.toml"), {})
    assert list(map(str, error.value.faults)) == [
        "my.toml: cannot be read: No such file or directory"
    ]
    with pytest.raises(ConfigError, match="cannot be read"):
        load_models(Path("my.toml"))


def test_unreadable_files(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_settings(folder, {})
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 3\)"):
        load_teams(write(folder / "teams.toml", b"# \xff"), MODELS)


def test_teams_are_read_with_the_models_at_hand(folder: Path) -> None:
    file = write(folder / "teams.toml", '[teams.design]\nmodels = ["gpt-image-2"]')
    assert [team.name for team in load_teams(file, MODELS)] == ["design"]
    with pytest.raises(ConfigError, match="item 1 is not a configured model"):
        load_teams(file, {})


def test_the_error_of_a_named_file_shows_no_secret() -> None:
    with pytest.raises(ValueError, match=r"^the file /no/key cannot be read: No such file or dir"):
        read_file("/no/key")
    for secret in ("https://hooks.example.com/canary", "whsec_canary", "sk-canary-0123456789"):
        assert "canary" not in shown_file(secret)
