"""Teams in the admin API: what is read can be sent back, and what is wrong is told whole."""

import pytest

from tests.support.rig import Rig


async def test_what_was_read_can_be_sent_back(rig: Rig) -> None:
    assert (await rig.ask_admin("POST", "teams", json={"team": "design"})).status == 201
    read = (await rig.ask_admin("GET", "teams/design")).json
    for method in ("PUT", "PATCH"):
        got = await rig.ask_admin(method, "teams/design", json={**read, "max_n": 3})
        assert (got.status, got.json) == (200, {**read, "max_n": 3})


async def test_a_teams_name_cannot_be_changed(rig: Rig) -> None:
    await rig.key("design")
    for method in ("PUT", "PATCH"):
        got = await rig.ask_admin(method, "teams/design", json={"team": "other", "maxn": 1})
        assert got.error == (400, "invalid_request_error", "invalid_fields")
        assert got.json["error"]["param"] == "team"
        assert "body: team: is not the team of the path" in got.json["error"]["message"]
    names = [team["team"] for team in (await rig.ask_admin("GET", "teams")).json["teams"]]
    assert names == ["design"]


async def test_everything_that_a_new_team_lacks_is_told(rig: Rig) -> None:
    got = await rig.ask_admin("POST", "teams", json={"name": "design", "max_n": 0})
    assert got.error == (400, "invalid_request_error", "invalid_fields")
    told = got.json["error"]["message"]
    for part in ("team: is needed", "name: no such option", "max_n: must be"):
        assert f"body: {part}" in told


async def test_history_of_a_team_that_never_was_is_not_found(rig: Rig) -> None:
    key = await rig.key("gone")
    assert (await rig.generate(key)).status == 200
    assert (await rig.ask_admin("DELETE", "teams/gone")).status == 200
    for path in ("usage", "activity", "errors"):
        got = await rig.ask_admin("GET", f"{path}?team=nope")
        assert got.error == (404, "invalid_request_error", "no_such_thing"), path
        assert (await rig.ask_admin("GET", f"{path}?team=gone")).status == 200
    (row,) = (await rig.ask_admin("GET", "usage?team=gone")).json
    assert row["images_bought"] == 1


@pytest.mark.parametrize("path", ["usage", "errors"])
async def test_what_is_counted_by_the_hour_is_not_told_finer(rig: Rig, path: str) -> None:
    got = await rig.ask_admin("GET", f"{path}?from=2026-11-01T10:30:00Z")
    assert got.error == (400, "invalid_request_error", "invalid_fields")
    assert got.json["error"]["param"] == "from"
    assert (await rig.ask_admin("GET", f"{path}?from=2026-11-01T10:00:00Z")).status == 200
