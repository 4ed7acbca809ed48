"""Every query and body of the admin API has bounds, and the OpenAPI document names them."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.bounds import (
    MOST_CHANGES,
    MOST_CHARS,
    MOST_DAYS,
    MOST_GROUPS,
    MOST_ITEMS,
    MOST_LISTED,
    MOST_NAMES,
    MOST_REQUESTS,
    MOST_SHOWN,
    TEAM_DAYS,
    TEAM_ROWS,
)
from gateway.core.faults import InvalidFields
from gateway.core.model import Team
from gateway.web.public import at_most
from tests.support.directory import put_teams
from tests.support.rig import Rig

SPANS = ("usage", "overview", "activity", "errors", "audit")
TEXTS = ("team", "key", "outcome", "id")
LONG = "x" * (MOST_CHARS + 1)

Json = dict[str, Any]


async def refused(rig: Rig, method: str, path: str, body: Json | None = None) -> str:
    """The message of a refusal whose `param` and text name the same field."""
    got = await rig.ask_admin(method, path, json=body)
    assert got.error == (400, "invalid_request_error", "invalid_fields"), path
    error = got.json["error"]
    assert error["param"] in error["message"]
    message: str = error["message"]
    return message


async def test_no_span_is_longer_than_ten_years(rig: Rig) -> None:
    spans = {
        "from=1970-01-01": "from: is ",
        "from=1970-01-01&to=9998-12-31": "from: is 2932532 days before to",
        "from=9998-12-31&to=1970-01-01": "to: is before from",
        "to=9998-12-31": "to: is ",
        "from=2001-01-01&to=2011-01-09": f"is {MOST_DAYS + 1} days before to; at most {MOST_DAYS}",
    }
    for route in SPANS:
        for span, reason in spans.items():
            assert reason in await refused(rig, "GET", f"{route}?{span}")
        for span in ("from=2001-01-01&to=2011-01-08", "from=2026-01-01&to=2026-01-01"):
            assert (await rig.ask_admin("GET", f"{route}?{span}")).status == 200
    for span in ("from=1970-01-01T00:00:00%2B14:00", "to=9998-12-31T23:00:00-12:00"):
        for route in SPANS:
            await refused(rig, "GET", f"{route}?{span}")


async def test_a_team_asks_for_at_most_400_days(rig: Rig) -> None:
    key = await rig.key()
    for span, days in {"from=2024-01-01&to=2025-02-04": 401, "to=9998-12-31": 29}.items():
        got = await rig.get(f"/v1/usage?{span}", key)
        assert got.error == (400, "invalid_request_error", "invalid_fields")
        assert f"{days}" in got.json["error"]["message"]
        assert f"at most {TEAM_DAYS}" in got.json["error"]["message"]
    assert (await rig.get("/v1/usage?from=2024-01-01&to=2025-02-03&by=hour", key)).status == 200


async def test_a_teams_report_has_a_bounded_number_of_rows() -> None:
    async def pieces() -> Any:
        for _ in range(TEAM_ROWS // 10_000):
            yield [{}] * 10_000

    assert sum([len(piece) async for piece in at_most(TEAM_ROWS, pieces())]) == TEAM_ROWS
    with pytest.raises(InvalidFields, match=f"by: makes more than {TEAM_ROWS - 1} rows"):
        _ = [piece async for piece in at_most(TEAM_ROWS - 1, pieces())]


async def test_pages_lists_and_texts_are_bounded(rig: Rig) -> None:
    pages = {
        "activity": MOST_REQUESTS,
        "audit": MOST_CHANGES,
        "cache/top": MOST_LISTED,
        "alerts": MOST_LISTED,
    }
    for route, most in pages.items():
        assert (await rig.ask_admin("GET", f"{route}?limit={most}")).status == 200
        for limit in (most + 1, 0, -1, 10**11):
            reason = f"limit: must be an integer from 1 to {most}, got {limit}."
            assert reason in await refused(rig, "GET", f"{route}?limit={limit}")
    assert (
        await rig.ask_admin("GET", "usage?" + "&".join(["by=team"] * MOST_GROUPS))
    ).status == 200
    many = "&".join(["by=team"] * (MOST_GROUPS + 1))
    assert f"at most {MOST_GROUPS} items" in await refused(rig, "GET", f"usage?{many}")
    many = ",".join(["hour"] * (MOST_GROUPS + 1))
    assert f"at most {MOST_GROUPS} items" in await refused(rig, "GET", f"usage?by={many}")
    for query in ("usage?team=", "overview?team=", "activity?team=", "activity?key=", "keys?team="):
        name = query.partition("?")[2].removesuffix("=")
        reason = f"{name}: must be text of at most {MOST_CHARS} characters"
        assert reason in await refused(rig, "GET", f"{query}{LONG}")
    for query in ("activity?id=", "activity?outcome=", "errors?team=", "audit?team="):
        assert f"at most {MOST_CHARS}" in await refused(rig, "GET", f"{query}{LONG}")
    before = "activity?before=" + "0" * 30
    assert "before: must be" in await refused(rig, "GET", before)


async def test_a_query_has_a_bounded_number_of_parameters(rig: Rig) -> None:
    query = "&".join(f"a{number}" for number in range(MOST_NAMES + 1))
    got = await rig.ask_admin("GET", f"teams?{query}")
    assert got.error == (400, "invalid_request_error", "invalid_fields")
    assert f"{MOST_NAMES + 1} parameters; at most {MOST_NAMES}" in got.json["error"]["message"]
    query = "&".join(f"a{number}" for number in range(MOST_NAMES))
    got = await rig.ask_admin("GET", f"teams?{query}")
    assert f"and {MOST_NAMES - MOST_SHOWN} more faults" in got.json["error"]["message"]
    assert len(got.json["error"]["faults"]) == MOST_NAMES


async def test_bodies_are_bounded(rig: Rig) -> None:
    await rig.key("red")
    many = {f"a{number}": 1 for number in range(MOST_NAMES + 1)}
    items = ["gpt-image-2"] * (MOST_ITEMS + 1)
    names = f"has {MOST_NAMES + 1} options; at most {MOST_NAMES}"
    for method, path, body, reason in (
        ("POST", "teams", {"team": "new", "limits": many}, names),
        ("PUT", "teams/red", many, names),
        ("PATCH", "keys/unknown", many, names),
        ("POST", "cache/purge", many, names),
        ("POST", "teams", {"team": "new", "models": items}, f"at most {MOST_ITEMS} items"),
        ("POST", "teams", {"team": "new", "sizes": ["auto"] * 101}, f"at most {MOST_ITEMS} items"),
        ("PUT", "teams/red", {"qualities": ["low"] * 101}, f"at most {MOST_ITEMS} items"),
        ("POST", "keys", {"team": LONG}, f"at most {MOST_CHARS} characters"),
        ("POST", "cache/purge", {"team": LONG}, f"at most {MOST_CHARS} characters"),
        ("POST", "cache/lookup", {"team": LONG, "request": {}}, f"at most {MOST_CHARS} characters"),
    ):
        got = await rig.ask_admin(method, path, json=body)
        assert got.error == (400, "invalid_request_error", "invalid_fields"), (path, got.body)
        assert reason in got.json["error"]["message"]


async def test_an_unknown_team_is_not_answered_with_all_teams(rig: Rig) -> None:
    teams = [Team(name=f"team-{number:03}") for number in range(100)]
    await put_teams(rig.store.directory, teams)
    got = await rig.ask_admin("GET", "teams/none")
    assert got.status == 404
    assert "team-019 and 80 more" in got.json["error"]["message"]


async def test_the_document_names_the_bounds(rig: Rig) -> None:
    document = json.loads((await rig.admin("/openapi.json")).body)
    found: dict[tuple[str, str], Json] = {
        (path.removeprefix("/admin/v1/"), parameter["name"]): parameter
        for path, item in document["paths"].items()
        for parameter in item.get("get", {}).get("parameters", ())
        if parameter["in"] == "query"
    }
    schemas = {name: parameter["schema"] for name, parameter in found.items()}
    assert schemas["activity", "limit"]["maximum"] == MOST_REQUESTS
    assert schemas["audit", "limit"]["maximum"] == MOST_CHANGES
    assert schemas["cache/top", "limit"]["maximum"] == MOST_LISTED
    assert schemas["alerts", "limit"]["maximum"] == MOST_LISTED
    assert schemas["usage", "by"]["maxItems"] == MOST_GROUPS
    for route in SPANS:
        assert f"At most {MOST_DAYS} days" in found[route, "from"]["description"]
    assert f"At most {TEAM_DAYS} days" in found["/v1/usage", "from"]["description"]
    texts = [schema for (_, name), schema in schemas.items() if name in TEXTS]
    assert texts
    for schema in texts:
        assert [each["maxLength"] for each in schema["anyOf"] if each["type"] == "string"] == [
            MOST_CHARS
        ]
    policy = document["components"]["schemas"]["NewTeam"]["properties"]
    for name in ("models", "sizes", "qualities"):
        assert MOST_ITEMS in [each.get("maxItems") for each in policy[name]["anyOf"]]


def test_the_pages_name_the_bounds() -> None:
    page = (Path(__file__).parents[3] / "docs" / "admin-api.md").read_text(encoding="utf-8")
    for number in (MOST_DAYS, MOST_REQUESTS, MOST_CHANGES, MOST_GROUPS, MOST_NAMES, MOST_CHARS):
        assert f"{number:,}" in page
