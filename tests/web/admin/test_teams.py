"""Teams in the admin API: their public form can be sent back, and their history stays."""

from tests.support.rig import Rig


async def test_the_public_form_can_be_sent_back(rig: Rig) -> None:
    assert (await rig.ask_admin("POST", "teams", json={"team": "design"})).status == 201
    read = (await rig.ask_admin("GET", "teams/design")).json
    for method in ("PUT", "PATCH"):
        got = await rig.ask_admin(method, "teams/design", json={**read, "max_n": 3})
        assert (got.status, got.json) == (200, {**read, "max_n": 3})


async def test_a_deleted_team_has_its_history_and_an_unknown_one_is_not_found(rig: Rig) -> None:
    key = await rig.key("gone")
    assert (await rig.generate(key)).status == 200
    assert (await rig.ask_admin("DELETE", "teams/gone")).status == 200
    for path in ("usage", "activity", "errors"):
        got = await rig.ask_admin("GET", f"{path}?team=nope")
        assert got.error == (404, "invalid_request_error", "no_such_thing"), path
        assert (await rig.ask_admin("GET", f"{path}?team=gone")).status == 200
    (row,) = (await rig.ask_admin("GET", "usage?team=gone")).json
    assert row["images_bought"] == 1
