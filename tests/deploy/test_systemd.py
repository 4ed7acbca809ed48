"""deploy/systemd: valid units, closed off from everything that the gateway does not need."""

import re
import shutil
from pathlib import Path

import pytest

from gateway.config.load import read_settings
from gateway.config.settings import ServerSettings
from tests.support.tools import DEPLOY, passes

FOLDER = DEPLOY / "systemd"
SERVICES = ["gateway.service", "gateway@.service"]
PROGRAM = "/opt/gateway/bin/gateway"
EXPOSURE = 2.0
"""Out of ten: systemd calls that "OK"."""

analyzed = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copies of the units, with a program that exists."""
    for file in FOLDER.iterdir():
        text = file.read_text().replace(PROGRAM, "/bin/true")
        (tmp_path / file.name).write_text(text)
    return tmp_path


@analyzed
def test_systemd_finds_nothing_wrong(folder: Path) -> None:
    units = ["gateway.service", "gateway@8081.service", "gateways.target"]
    (folder / "gateway@8081.service").symlink_to("gateway@.service")
    said = passes("systemd-analyze", "verify", "--man=no", *(folder / unit for unit in units))
    about_ours = [line for line in said.splitlines() if "gateway" in line]
    assert about_ours == []


@analyzed
@pytest.mark.parametrize("service", SERVICES)
def test_little_is_exposed(folder: Path, service: str) -> None:
    said = passes("systemd-analyze", "security", "--offline=true", "--no-pager", folder / service)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found
    assert float(found[1]) <= EXPOSURE


def settings_of(service: str, instance: str = "") -> list[tuple[str, str]]:
    text = (FOLDER / service).read_text().replace("%i", instance).replace("%d", "/run/credentials")
    return re.findall(r"^(\w+)=(.*)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("service", SERVICES)
def test_a_stop_waits_for_calls_under_way(service: str) -> None:
    settings = dict(settings_of(service))
    server = ServerSettings()
    stop = server.drain_notice_seconds + server.drain_seconds
    assert float(settings["TimeoutStopSec"]) >= stop + 20
    assert settings["KillMode"] == "mixed"
    assert settings["ExecReload"] == "/bin/kill -HUP $MAINPID"


@pytest.mark.parametrize(
    ("service", "ports"), [("gateway.service", None), ("gateway@.service", (8081, 18081))]
)
def test_each_variable_is_an_option(service: str, ports: tuple[int, int] | None) -> None:
    lines = [value for name, value in settings_of(service, "8081") if name == "Environment"]
    pairs = [pair.partition("=") for line in lines for pair in line.split()]
    found, warnings = read_settings("", {name: value for name, _, value in pairs})
    assert not warnings
    assert found.upstream.api_key_file == "/run/credentials/upstream-key"
    assert found.keys.pepper_file == "/run/credentials/pepper"
    if ports:
        assert (found.server.port, found.server.admin_port) == ports


@pytest.mark.parametrize("service", SERVICES)
def test_secrets_come_as_credentials(service: str) -> None:
    loaded = [value for name, value in settings_of(service) if name == "LoadCredential"]
    assert [each.partition(":")[0] for each in loaded] == ["upstream-key", "pepper"]


def test_the_two_units_differ_only_where_instances_must() -> None:
    one, several = (
        {line for line in (FOLDER / service).read_text().splitlines() if "=" in line}
        for service in SERVICES
    )
    assert {line.partition("=")[0] for line in one ^ several} == {
        *("Description", "PartOf", "Environment", "StateDirectory", "WorkingDirectory"),
        "WantedBy",
    }
