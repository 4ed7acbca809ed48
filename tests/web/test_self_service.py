"""A team sees its own quotas and usage with its key, and nothing of other teams."""

import pytest

from gateway.core.model import Limits
from tests.support.rig import Rig


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
async def test_a_team_sees_its_usage_and_its_remaining_quota(rig: Rig, prefix: str) -> None:
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


async def test_a_team_cannot_query_more(rig: Rig) -> None:
    key = await rig.key()
    for query in ("team=blue", "by=team", "from=2001-01-01", "format=csv"):
        got = await rig.get(f"/v1/usage?{query}", key)
        assert got.error == (400, "invalid_request_error", "invalid_fields"), query
