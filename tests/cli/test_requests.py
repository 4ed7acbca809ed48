"""Recent requests on the command line."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

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
    assert [one["id"] for one in asked("--team", "red", "--limit", "2")][1] == "first"
    assert asked("--id", "first") == asked("--key", red)[1:]
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert len(asked("--from", "2026-01-01", "--to", today)) == 3
    assert asked("--to", "2026-01-01") == []
    for wrong in (("--from", today, "--to", "2026-01-01"), ("--from", "1969-12-31")):
        assert line.click("activity", *wrong, **environ).exit_code == 2
    table = line.click("activity", "--errors", **environ).stdout
    assert "invalid_request (integer_above_max_value)" in table
    assert len(table.splitlines()) == 2


def test_no_requests(line: Line) -> None:
    line.click("teams", "apply", "teams.toml")
    got = line.click("activity")
    assert (got.exit_code, got.stdout) == (0, "")
    assert "There are no such requests in the history." in got.stderr
    assert line.click("activity", "--limit", "0").exit_code == 2
