"""What a team sees of itself with its own key, and that it sees nothing of others."""

import pytest

from gateway.core.model import Limits
from tests.support.rig import Rig


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
async def test_a_team_sees_what_it_used_and_what_is_left(rig: Rig, prefix: str) -> None:
    key = await rig.key("red", limits=Limits(images_per_day=5))
    other = await rig.key("blue", limits=Limits(images_per_day=9))
    own = await rig.further_key("red", limits=Limits(images_per_month=2))
    for caller in (key, own, other):
        assert (await rig.generate(caller, None)).status == 200
    assert (await rig.generate(key, "kept")).status == (await rig.generate(key, "kept")).status
    quota = await rig.get(f"{prefix}/quota", key)
    (state,) = quota.json["limits"]
    assert (quota.json["team"], quota.json["key"]) == ("red", None)
    assert (state["limit"], state["used"], state["remaining"]) == ("images_per_day", 3, 2)
    mine = (await rig.get(f"{prefix}/quota", own)).json["key"]
    assert [(one["limit"], one["remaining"]) for one in mine["limits"]] == [("images_per_month", 1)]
    usage = await rig.get(f"{prefix}/usage?by=day,model", key)
    assert usage.json["team"] == "red"
    (row,) = usage.json["usage"]
    assert (row["images_bought"], row["images_cached"], row["requests"]) == (3, 1, 4)
    assert b"blue" not in quota.body + usage.body


@pytest.mark.parametrize("query", ["team=blue", "by=team", "from=2001-01-01", "format=csv"])
async def test_it_may_not_ask_for_more(rig: Rig, query: str) -> None:
    got = await rig.get(f"/v1/usage?{query}", await rig.key())
    assert got.error == (400, "invalid_request_error", "invalid_fields")


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/quota"])
async def test_it_needs_a_key(rig: Rig, path: str) -> None:
    assert (await rig.get(path)).error == (401, "authentication_error", "invalid_api_key")
