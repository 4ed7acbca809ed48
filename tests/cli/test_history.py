"""Recent requests and the audit log on the command line."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.line import Line
from tests.support.rig import running_rig

PEPPER = "a pepper of tests, long enough"


async def serve(folder: Path, url: str) -> str:
    """Answer three requests of two teams, and return the key of red."""
    async with running_rig(folder, STORE_URL=url, KEYS_PEPPER=PEPPER) as rig:
        red, blue = await rig.key("red"), await rig.key("blue")
        await rig.generate(red, headers={"X-Request-Id": "first"})
        await rig.generate(red, n=99)
        await rig.generate(blue)
    return red.partition("_")[0]


def test_requests_are_listed_and_filtered(line: Line, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'my.db'}"
    red = asyncio.run(serve(tmp_path, url))
    environ = {"GATEWAY_STORE_URL": url, "GATEWAY_KEYS_PEPPER": PEPPER}

    def asked(*arguments: str) -> list[dict[str, object]]:
        got = line.click("activity", "--format", "json", *arguments, **environ)
        assert got.exit_code == 0
        found: list[dict[str, object]] = json.loads(got.stdout)
        return found

    assert [one["team"] for one in asked()] == ["blue", "red", "red"]
    assert [one["outcome"] for one in asked("--errors")] == ["invalid_request"]
    assert asked("--outcome", "invalid_request") == asked("--errors")
    assert [one["id"] for one in asked("--team", "red", "--limit", "2")][1] == "first"
    assert asked("--id", "first") == asked("--key", red)[1:]
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert len(asked("--from", "2026-01-01", "--to", today)) == 3
    assert asked("--to", "2026-01-01") == []
    days = ("--from", today, "--to", "2026-01-01")
    for wrong in (days, ("--from", "1969-12-31"), ("--limit", "0")):
        assert line.click("activity", *wrong, **environ).exit_code == 2
    table = line.click("activity", "--errors", **environ).stdout
    assert "invalid_request (integer_above_max_value)" in table
    assert len(table.splitlines()) == 2


@pytest.mark.parametrize("command", ["usage", "activity"])
def test_history_of_an_unknown_team_is_an_error(filled: Line, command: str) -> None:
    done = filled.click(command, "--team", "desing")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "There is no team desing. The teams are design, research." in done.stderr


# -- audit --------------------------------------------------------------------------------------


def test_changes_by_the_command_line_are_in_the_audit_log(line: Line) -> None:
    line.click("teams", "apply", "teams.toml")
    key = line.click("keys", "create", "--team", "design").stdout.strip()
    line.click("keys", "disable", key)
    found = line.click("audit", "--team", "design", "--format", "json")
    disabled, made, team = json.loads(found.stdout)
    assert (team["action"], team["before"]) == ("team.create", None)
    assert team["after"]["limits"]["images_per_day"] == 200
    assert (made["action"], made["key"]) == ("key.create", key.partition("_")[0])
    assert (disabled["before"]["state"], disabled["after"]["state"]) == ("active", "disabled")
    assert all(entry["who"].startswith("command line as ") for entry in (disabled, made, team))
    assert key.partition("_")[2] not in found.stdout
    table = line.click("audit").stdout
    assert "state: active -> disabled" in table
    assert len(table.splitlines()) == 5  # titles, three of design's, one of research's


def test_the_audit_log_of_some_days(line: Line) -> None:
    line.click("teams", "apply", "teams.toml")
    assert json.loads(line.click("audit", "--to", "2026-01-01", "--format", "json").stdout) == []
    assert line.click("audit", "--from", "2026-01-02", "--to", "2026-01-01").exit_code == 2
