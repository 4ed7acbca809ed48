"""`gateway check-config`: all faults of the files, of the environment and of named files."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from gateway.cli.check_config import find_faults
from tests.support.line import CODE, Line
from tests.support.tls import Issued


def test_a_right_configuration_is_confirmed(line: Line) -> None:
    done = line.click("check-config", GATEWAY_UPSTREAM_BASE_URL="https://a.example/v1")
    assert (done.exit_code, done.stdout) == (0, "No faults in the environment.\n")
    first, second = done.stderr.splitlines()
    assert first.startswith("warning: environment GATEWAY_UPSTREAM_BASE_URL: ends in /v1")
    assert second.startswith("warning: environment GATEWAY_UPSTREAM_API_KEY_FILE: needs")
    assert not (line.folder / "data").exists()


def test_the_shipped_files_are_right(line: Line) -> None:
    done = line.click("check-config", "--config", str(CODE / "config" / "gateway.toml"))
    assert done.exit_code == 0
    assert "gateway.toml, " in done.stdout
    assert "teams.toml, the environment" in done.stdout


def test_the_environment_names_the_file_and_an_option_outranks_it(line: Line) -> None:
    for name in ("one", "two"):
        (line.folder / f"{name}.toml").write_text(f"[{name}]")
    done = line.click("check-config", GATEWAY_CONFIG="one.toml")
    assert (done.exit_code, done.stderr) == (2, "one.toml: [one]: no such section\n")
    done = line.click("check-config", "--config", "two.toml", GATEWAY_CONFIG="one.toml")
    assert (done.exit_code, done.stderr) == (2, "two.toml: [two]: no such section\n")


def test_a_named_file_must_exist(line: Line) -> None:
    for arguments in (["--config", "my.toml"], ["--teams", "my.toml"]):
        done = line.click("check-config", *arguments)
        assert done.exit_code == 2
        assert "my.toml: cannot be read: No such file or directory\n" in done.stderr


# -- faults -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working directory, empty."""
    with chdir(tmp_path):
        yield tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


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


def test_a_missing_upstream_is_a_warning(folder: Path) -> None:
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
        ("", "must contain one line of printable ASCII without spaces"),
        ("two words", "must contain one line of printable ASCII without spaces"),
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


@pytest.mark.parametrize("option", ["store", "cache"])
def test_the_files_of_a_redis_url_must_exist_and_fit(folder: Path, option: str) -> None:
    issued = Issued()
    issued.write(folder)
    Issued().write(folder / "other")
    write(folder / "ca.pem", issued.authority.decode())
    write(folder / "text.pem", "no certificate")
    variable = f"GATEWAY_{option.upper()}_URL"
    for files, fault in (
        ("ssl_ca_certs=ca.pem&ssl_certfile=tls.crt&ssl_keyfile=tls.key", None),
        ("ssl_ca_certs=no.pem", "the file no.pem cannot be read: No such file or directory"),
        ("ssl_ca_certs=text.pem", "text.pem does not hold a certificate as PEM"),
        (
            "ssl_certfile=tls.crt&ssl_keyfile=no.key",
            "the file no.key cannot be read: No such file or directory",
        ),
        (
            "ssl_certfile=tls.crt&ssl_keyfile=other/tls.key",
            "the key in other/tls.key does not belong to the certificate in tls.crt",
        ),
    ):
        for scheme in ("rediss", "rediss+cluster"):
            faults, _ = find_faults(None, None, {variable: f"{scheme}://:secret@h?{files}"})
            place = f"environment {variable}"
            assert list(map(str, faults)) == ([f"{place}: {fault}"] if fault else [])


def test_the_image_store_is_a_folder_or_not_there_yet(folder: Path) -> None:
    write(folder / "file", "")
    for url, enabled, wrong in (
        ("file:file", "true", True),
        ("file:file", "false", False),
        ("file:none", "true", False),
        ("file:.", "true", False),
    ):
        environ = {"GATEWAY_IMAGES_URL": url, "GATEWAY_IMAGES_ENABLED": enabled}
        faults, _ = find_faults(None, None, environ)
        texts = ["environment GATEWAY_IMAGES_URL: names a file, not a folder"] if wrong else []
        assert list(map(str, faults)) == texts


def test_a_buckets_file_of_credentials_must_hold_some(folder: Path) -> None:
    environ = {
        "GATEWAY_IMAGES_URL": "s3://bucket/prefix",
        "GATEWAY_IMAGES_CREDENTIALS_FILE": "bucket.ini",
    }
    write(folder / "bucket.ini", "[default]\naws_access_key_id = canary\n")
    (fault,) = find_faults(None, None, environ)[0]
    assert str(fault).startswith("environment GATEWAY_IMAGES_URL: bucket.ini must have ")
    assert "canary" not in str(fault)
    keys = "[default]\naws_access_key_id = canary\naws_secret_access_key = canary\n"
    write(folder / "bucket.ini", keys)
    assert find_faults(None, None, environ)[0] == []
