"""Configuration files as they are found on the disk."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from gateway.cli.check_config import find_faults
from gateway.config.files import load_models, load_settings, load_teams
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


def test_the_faults_of_both_files_are_found_at_once(folder: Path) -> None:
    config = write(folder / "gateway.toml", "[server]\nprot = 1\nport = true")
    teams = write(folder / "teams.toml", "[teams.design]\nmax = 1")
    faults, warnings = find_faults(config, teams, {"GATEWAY_SERVER_HOST": "a b"})
    assert sorted(fault.place.removeprefix(f"{folder}/") for fault in faults) == [
        "environment GATEWAY_SERVER_HOST",
        "gateway.toml: [server] port",
        "gateway.toml: [server] prot",
        "teams.toml: [teams.design] max",
    ]
    assert warnings == []


def test_to_have_no_upstream_is_a_warning(folder: Path) -> None:
    faults, warnings = find_faults(None, None, {})
    assert faults == []
    assert [warning.place for warning in warnings] == [
        "environment GATEWAY_UPSTREAM_BASE_URL",
        "environment GATEWAY_UPSTREAM_API_KEY_FILE",
    ]


@pytest.mark.parametrize("config_text", ['[models."gpt-image-2"]\nmax_m = 1', "not = toml ="])
def test_faults_of_the_configuration_hide_none_of_the_teams(folder: Path, config_text: str) -> None:
    config = write(folder / "gateway.toml", config_text)
    teams = write(folder / "teams.toml", '[teams.design]\nmodels = ["unknown"]\nmax = 1')
    faults, warnings = find_faults(config, teams, {})
    assert [fault.place for fault in faults if fault.source == str(teams)] == [
        f"{teams}: [teams.design] max"
    ]
    assert [fault for fault in faults if fault.source == str(config)]
    assert list(map(str, warnings)) == [
        f"{teams}: not compared with the models, because {config} is wrong"
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "must contain one line of printable ASCII"),
        ("two words", "must contain one line of printable ASCII"),
        ("key-of-the-upstream\n", None),
    ],
)
def test_a_key_file_that_is_named_must_hold_a_key(
    folder: Path, content: str | None, fault: str | None
) -> None:
    config = write(folder / "gateway.toml", '[upstream]\napi_key_file = "upstream.key"')
    if content is not None:
        write(folder / "upstream.key", content)
    by_variable = {"GATEWAY_UPSTREAM_API_KEY_FILE": "upstream.key"}
    for place, file, environ in (
        (f"{config}: [upstream] api_key_file", config, {}),
        ("environment GATEWAY_UPSTREAM_API_KEY_FILE", None, by_variable),
    ):
        faults, _ = find_faults(file, None, environ)
        assert list(map(str, faults)) == (
            [f"{place}: the file upstream.key {fault}"] if fault else []
        )
        # The environment outranks the file.
        assert find_faults(file, None, {**environ, "GATEWAY_UPSTREAM_API_KEY": "any"})[0] == []
