"""The admin API of a whole gateway: its operations and its refusals."""

import csv
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import pytest

from gateway.config.admin_tokens import mint, toml_block
from gateway.core.model import Limits
from gateway.reporting.queries import parse_time
from tests.conformance.store import entry
from tests.support.rig import ADMIN_TOKEN, FLAT, UPSTREAM_KEY, Got, Rig, running_rig

VIEWER = mint(lambda size: b"v" * size)
SECOND = mint(lambda size: b"s" * size)
TOKENS = f"{toml_block('eyes', 'viewer', VIEWER)}\n{toml_block('ops', 'admin', SECOND)}\n"
OWN = {"team": "design"}
TEAM = {"max_n": 3, "limits": {"images_per_day": 5, "cost_per_month_usd": 2.5}}
SHOWN = {
    "team": "design",
    "models": None,
    "sizes": None,
    "qualities": None,
    "max_n": 3,
    "cache": True,
    "deliver": None,
    "limits": {
        "images_per_day": 5,
        "images_per_month": None,
        "cost_per_day_usd": None,
        "cost_per_month_usd": "2.5",
        "requests_per_minute": None,
        "concurrent_requests": None,
    },
    "unknown_hold_seconds": None,
}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path, FLAT + TOKENS) as running:
        yield running


async def made(rig: Rig, **fields: object) -> Got:
    got = await rig.ask_admin("POST", "teams", json={"team": "design", **TEAM, **fields})
    assert got.status == 201, got.body
    return got


# -- tokens -------------------------------------------------------------------------------------


async def test_a_wrong_token_opens_nothing(rig: Rig) -> None:
    for token in (None, "x" * 40, ADMIN_TOKEN[:-1], await rig.key()):
        for path in ("teams", "nothing"):
            got = await rig.ask_admin("GET", path, token)
            assert got.error == (401, "authentication_error", "invalid_admin_token")
            assert got.headers["WWW-Authenticate"] == "Bearer"


async def test_without_a_token_there_is_no_admin_api(tmp_path: Path) -> None:
    async with running_rig(tmp_path, ADMIN_TOKEN="") as rig:
        for method, path in (("GET", "teams"), ("POST", "session")):
            got = await rig.ask_admin(method, path, json={"token": "x" * 40})
            assert got.error == (404, "invalid_request_error", "admin_off")
        assert (await rig.admin("/healthz")).status == 200
        assert (await rig.admin("/metrics")).status == 200


async def test_a_viewer_reads_and_changes_nothing(rig: Rig) -> None:
    await made(rig)
    assert (await rig.ask_admin("GET", "teams/design", VIEWER)).json == SHOWN
    own = "teams/design"
    for method, path in (("POST", "teams"), ("PUT", own), ("PATCH", own), ("DELETE", own)):
        got = await rig.ask_admin(method, path, VIEWER, json=TEAM)
        assert got.error == (403, "permission_error", "role_not_allowed")
    assert (await rig.ask_admin("GET", "teams/design", VIEWER)).json == SHOWN


# -- teams --------------------------------------------------------------------------------------


async def test_a_team_is_created_read_changed_and_deleted(rig: Rig) -> None:
    got = await made(rig)
    assert got.json == SHOWN
    assert got.headers["Location"] == "/admin/v1/teams/design"
    again = await rig.ask_admin("POST", "teams", json={"team": "design"})
    assert again.error == (409, "invalid_request_error", "conflict")
    assert (await rig.ask_admin("GET", "teams")).json == {"teams": [SHOWN]}
    patch = {
        "max_n": None,
        "unknown_hold_seconds": 0,
        "limits": {"images_per_day": 7, "cost_per_month_usd": None},
    }
    got = await rig.ask_admin("PATCH", "teams/design", json=patch)
    limits = {**SHOWN["limits"], "images_per_day": 7, "cost_per_month_usd": None}  # type: ignore[dict-item]
    assert got.json == {**SHOWN, "max_n": None, "unknown_hold_seconds": 0, "limits": limits}
    got = await rig.ask_admin("PUT", "teams/design", json={"cache": False})
    assert (got.json["cache"], got.json["limits"]["images_per_day"]) == (False, None)
    assert (await rig.ask_admin("PUT", "teams/new", json={})).status == 201
    assert (await rig.ask_admin("DELETE", "teams/design")).json == {"deleted": "design"}
    for method in ("GET", "DELETE", "PATCH"):
        got = await rig.ask_admin(method, "teams/design", json={})
        assert got.error == (404, "invalid_request_error", "no_such_thing")


async def test_deleting_a_team_stops_its_keys_and_keeps_its_usage(rig: Rig) -> None:
    key = await rig.key("design", limits=Limits(images_per_day=1))
    assert (await rig.generate(key)).status == 200
    assert (await rig.ask_admin("DELETE", "teams/design")).status == 200
    for path in ("usage", "activity", "errors"):
        assert (await rig.ask_admin("GET", f"{path}?team=design")).status == 200
    await rig.gateway.directory.refresh()
    assert (await rig.generate(key)).status == 401
    body = {"team": "design", "limits": {"images_per_day": 1}}
    assert (await rig.ask_admin("POST", "teams", json=body)).status == 201
    new = (await rig.ask_admin("POST", "keys", json={"team": "design"})).json["key"]
    assert (await rig.generate(new, None)).error[2] == "insufficient_quota"
    (row,) = (await rig.ask_admin("GET", "usage?team=design")).json
    assert (row["team"], row["images_bought"]) == ("design", 1)


async def test_the_public_form_can_be_sent_back(rig: Rig) -> None:
    await made(rig)
    for method in ("PUT", "PATCH"):
        got = await rig.ask_admin(method, "teams/design", json={**SHOWN, "max_n": 4})
        assert (got.status, got.json) == (200, {**SHOWN, "max_n": 4})


@pytest.mark.parametrize(
    ("method", "path", "body", "parts"),
    [
        (
            "PUT",
            "teams/design",
            {"maxn": 3, "cache": 1, "models": ["dall-e"], "limits": {"images_per_dy": 5}},
            ("maxn: no such option; did you mean 'max_n'?", "cache: must be", "images_per_dy"),
        ),
        (
            "POST",
            "teams",
            {"name": "design", "max_n": 0},
            ("team: is needed", "name: no such option", "max_n: must be"),
        ),
        (
            "PATCH",
            "teams/red",
            {"team": "other", "maxn": 1},
            ("team: is not the team of the path", "maxn: no such option"),
        ),
    ],
)
async def test_an_error_names_every_fault_of_a_body(
    rig: Rig, method: str, path: str, body: dict[str, object], parts: tuple[str, ...]
) -> None:
    await rig.key("red")
    teams = (await rig.ask_admin("GET", "teams")).json
    got = await rig.ask_admin(method, path, json=body)
    assert got.error == (400, "invalid_request_error", "invalid_fields")
    assert got.json["error"]["param"] == parts[0].partition(":")[0]
    for part in parts:
        assert part in got.json["error"]["message"]
    assert (await rig.ask_admin("GET", "teams")).json == teams


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_two_admins_do_not_overwrite_each_other(rig: Rig, method: str) -> None:
    tag = (await made(rig)).headers["ETag"]
    assert (await rig.ask_admin("GET", "teams/design")).headers["ETag"] == tag
    match = {"If-Match": tag}
    changed = await rig.ask_admin("PUT", "teams/design", SECOND, json={"max_n": 9}, headers=match)
    assert changed.status == 200
    got = await rig.ask_admin(method, "teams/design", json={"max_n": 1}, headers=match)
    assert got.error == (412, "invalid_request_error", "precondition_failed")
    assert (await rig.ask_admin("GET", "teams/design")).json["max_n"] == 9
    match = {"If-Match": f'"other", {changed.headers["ETag"]}'}
    assert (await rig.ask_admin(method, "teams/design", json={}, headers=match)).status == 200
    got = await rig.ask_admin("PUT", "teams/absent", json={}, headers={"If-Match": "*"})
    assert got.status == 412


# -- keys ---------------------------------------------------------------------------------------


async def test_a_key_is_created_disabled_enabled_rotated_and_revoked(rig: Rig) -> None:
    await made(rig)
    body = {"team": "design", "name": " Web ", "expires": "90d", "limits": {"images_per_day": 2}}
    got = await rig.ask_admin("POST", "keys", json={"team": "design", "expires": None})
    assert (got.status, got.json["expires"]) == (201, None)
    assert (await rig.ask_admin("POST", f"keys/{got.json['id']}/revoke")).status == 200
    got = await rig.ask_admin("POST", "keys", json=body)
    assert got.status == 201
    key, id = got.json["key"], got.json["id"]
    assert (got.json["name"], got.json["limits"]["images_per_day"]) == ("Web", 2)
    assert (await rig.generate(key)).status == 200
    assert (await rig.ask_admin("POST", f"keys/{id}/disable")).json["state"] == "disabled"
    got = await rig.ask_admin("POST", f"keys/{id}/rotate")
    assert got.error == (409, "invalid_request_error", "conflict")
    assert (await rig.ask_admin("POST", f"keys/{id}/enable")).json["state"] == "active"
    got = await rig.ask_admin("POST", f"keys/{id}/rotate", json={"grace": "1h"})
    assert (got.status, got.json["replaces"]["state"]) == (201, "retiring")
    assert (got.json["line"], got.json["grace_in_full"]) == (id, True)
    again = await rig.ask_admin("POST", f"keys/{id}/rotate", json={"grace": "7d"})
    assert again.json["grace_in_full"] is False
    assert again.json["replaces"]["grace_ends"] == got.json["replaces"]["grace_ends"]
    assert (await rig.generate(got.json["key"], None)).status == 200
    assert (await rig.ask_admin("POST", f"keys/{id}/revoke")).json["state"] == "revoked"
    assert (await rig.ask_admin("POST", f"keys/{id}/enable")).status == 409
    listed = await rig.ask_admin("GET", "keys?team=design", VIEWER)
    states = [one["state"] for one in listed.json["keys"]]
    assert states == ["revoked", "revoked", "active", "active"]
    assert (await rig.ask_admin("GET", f"keys/{id}")).json["state"] == "revoked"
    for text in (key, got.json["key"]):
        assert text.encode() not in listed.body


async def test_a_patch_of_a_key_keeps_the_other_fields(rig: Rig) -> None:
    await made(rig)
    body = {"team": "design", "name": "Web", "expires": "1d", "limits": {"images_per_day": 1}}
    key = (await rig.ask_admin("POST", "keys", json=body)).json
    path = f"keys/{key['id']}"
    assert (await rig.generate(key["key"], None)).status == 200
    assert (await rig.generate(key["key"], None)).status == 429
    patch = {"limits": {"images_per_day": 2, "cost_per_day_usd": 0.5}}
    got = await rig.ask_admin("PATCH", path, json=patch)
    assert got.status == 200
    assert (got.json["name"], got.json["expires"]) == ("Web", key["expires"])
    assert got.json["limits"] == key["limits"] | {"images_per_day": 2, "cost_per_day_usd": "0.5"}
    await rig.gateway.directory.refresh()
    # Usage counted under the former limit counts under the new one.
    assert (await rig.generate(key["key"], None)).status == 200
    assert (await rig.generate(key["key"], None)).status == 429
    got = await rig.ask_admin("PATCH", path, json={"name": "", "expires": None, "limits": None})
    assert (got.json["name"], got.json["expires"]) == ("", None)
    assert set(got.json["limits"].values()) == {None}
    (change, *_) = (await rig.ask_admin("GET", "audit")).json["changes"]
    assert (change["action"], change["before"]["name"], change["after"]["name"]) == (
        *("key.change", "Web", ""),
    )
    assert (await rig.ask_admin("PATCH", path, VIEWER, json={})).status == 403
    await rig.ask_admin("POST", f"{path}/revoke")
    assert (await rig.ask_admin("PATCH", path, json={"name": "x"})).status == 409


# -- quota, usage, configuration, log -----------------------------------------------------------


async def test_the_quota_has_used_held_and_remaining(rig: Rig) -> None:
    limits = Limits(images_per_day=5, cost_per_month=1_000_000, requests_per_minute=10)
    key = await rig.key("design", limits=limits)
    own = await rig.further_key("design", limits=Limits(images_per_day=2))
    assert (await rig.generate(key, n=2)).status == 200
    assert (await rig.generate(own, None)).status == 200
    quota = (await rig.ask_admin("GET", "quota/design")).json
    states = {state["limit"]: state for state in quota["limits"]}
    assert set(states) == {"images_per_day", "cost_per_month_usd", "requests_per_minute"}
    day, money = states["images_per_day"], states["cost_per_month_usd"]
    assert (day["size"], day["used"], day["held"], day["remaining"]) == (5, 3, 0, 2)
    assert day["resets_at"].endswith("T00:00:00Z")
    assert (money["size"], money["used"], money["remaining"]) == ("1", "0.12", "0.88")
    assert states["requests_per_minute"]["used"] == 2
    ((state,),) = [one["limits"] for one in quota["keys"]]
    assert (state["used"], state["remaining"]) == (1, 1)
    assert (await rig.ask_admin("GET", "quota")).json == {"gateway": [], "teams": [quota]}


async def test_usage_is_grouped_and_filtered_as_json_and_csv(rig: Rig) -> None:
    for team in ("design", "other"):
        assert (await rig.generate(await rig.key(team), quality="low")).status == 200
    by = "usage?by=team,quality&by=hour"
    rows = (await rig.ask_admin("GET", by)).json
    assert [(row["team"], row["quality"], row["cost_usd"]) for row in rows] == [
        ("design", "low", "0.04"),
        ("other", "low", "0.04"),
    ]
    got = await rig.ask_admin("GET", f"{by}&format=csv&team=other", VIEWER)
    assert got.headers["Content-Type"].startswith("text/csv")
    (line,) = csv.DictReader(StringIO(got.body.decode()))
    assert line == {name: str(value) for name, value in rows[1].items()}
    assert (await rig.ask_admin("GET", "usage?to=2001-01-02&from=2001-01-01")).json == []
    for day in ("2026-02-01", "2026-02-03"):
        await rig.gateway.store.accounts.record([entry(day, at=parse_time(day))])
    span = "usage?by=team,day&from=2026-02-01&to=2026-02-03"
    assert [row["day"] for row in (await rig.ask_admin("GET", span)).json] == [
        "2026-02-01",
        "2026-02-03",
    ]
    text = (await rig.ask_admin("GET", f"{span}&format=csv")).body.decode()
    assert [line.partition(",1,")[0] for line in text.splitlines()[1:]] == [
        "red,2026-02-01",
        "red,2026-02-03",
    ]
    empty = await rig.ask_admin("GET", "usage?to=2001-01-02&from=2001-01-01&format=csv")
    assert empty.body.startswith(b"team,requests,")


async def test_the_configuration_shows_no_secret(rig: Rig) -> None:
    got = await rig.ask_admin("GET", "config", VIEWER)
    assert got.json["upstream"]["api_key"] == got.json["admin"]["token"] == "***"
    assert got.json["models"]["gpt-image-2"]["prices"] == "0.04"
    assert got.json["admin"]["tokens"] == {"eyes": {"role": "viewer"}, "ops": {"role": "admin"}}
    for secret in (UPSTREAM_KEY, ADMIN_TOKEN):
        assert secret.encode() not in got.body


async def test_the_audit_log_has_changes_with_their_actors(rig: Rig) -> None:
    await made(rig)
    await rig.ask_admin("PATCH", "teams/design", SECOND, json={"max_n": 1})
    key = (await rig.ask_admin("POST", "keys", json={"team": "design"})).json["key"]
    got = await rig.ask_admin("GET", "audit?team=design", VIEWER)
    assert [(one["action"], one["who"]) for one in got.json["changes"]] == [
        ("key.create", "admin token admin"),
        ("team.change", "admin token ops"),
        ("team.create", "admin token admin"),
    ]
    change = got.json["changes"][1]
    assert (change["before"]["max_n"], change["after"]["max_n"]) == (3, 1)
    assert key.encode() not in got.body
    assert len((await rig.ask_admin("GET", "audit?limit=1")).json["changes"]) == 1


# -- refusals -----------------------------------------------------------------------------------

REFUSED: dict[str, tuple[object, ...]] = {
    "POST teams": (
        *([], {"team": 3}, {"team": "-x"}, {"team": "x", "max_n": 1.5}),
        *({"team": "x", "limits": None}, {"team": "x", "limits": {"cost_per_day_usd": 1e-8}}),
    ),
    "PUT teams/design": ({"limits": {"images_per_day": -1}},),
    "POST keys": (
        *({}, {**OWN, "team": 3}, {**OWN, "expires": "soon"}, {**OWN, "nam": "x"}),
        *({**OWN, "name": "x" * 101}, {**OWN, "name": "a\nb"}),
        {**OWN, "limits": {"images_per_day": -1}},
    ),
    "PATCH keys/{key}": ({"limits": {"images": 1}}, {"state": "on"}, {"name": None}, {"limits": 3}),
    "POST cache/purge": (
        *({}, {"al": True}, {"all": 1}, {**OWN, "all": True}),
        *({"all": True, "fingerprint": "0" * 64}, {"fingerprint": "0" * 16}),
    ),
    "POST cache/lookup": ({}, OWN, {**OWN, "request": 3}, {**OWN, "request": {"n": 1}}),
}


@pytest.mark.parametrize("route", REFUSED)
async def test_a_bad_body_is_refused_and_changes_nothing(rig: Rig, route: str) -> None:
    await made(rig)
    key = (await rig.ask_admin("POST", "keys", json=OWN)).json
    method, path = route.format(key=key["id"]).split()
    for body in REFUSED[route]:
        got = await rig.ask_admin(method, path, json=body)
        assert (got.status, got.json["error"]["type"]) == (400, "invalid_request_error"), body
    assert (await rig.ask_admin("GET", "teams")).json == {"teams": [SHOWN]}
    (listed,) = (await rig.ask_admin("GET", "keys")).json["keys"]
    assert listed == {name: value for name, value in key.items() if name != "key"}


async def test_a_bad_query_is_refused(rig: Rig) -> None:
    for path, queries in {
        "usage": (
            *("by=nothing", "bye=team", "format=xml", "format=csv&format=json"),
            *("from=yesterday", "from=2026-01-01T00:00:00", "from=2026-01-02&to=2026-01-01"),
            *("from=0001-01-01T00:00:00%2B23:00", "from=2026-11-01T10:30:00Z"),
        ),
        "overview": (
            *("from=yesterday", "from=2026-01-01T00:00:00Z", "from=2026-01-02&to=2026-01-01"),
            "by=day",
        ),
        "activity": ("limit=0", "limit=1001", "before=x", "errors=maybe", "teem=red"),
        "errors": ("from=2026-01-02&to=2026-01-01", "from=2026-11-01T10:30:00Z"),
        "audit": ("from=2026-01-02&to=2026-01-01", "limit=10001"),
    }.items():
        for query in queries:
            got = await rig.ask_admin("GET", f"{path}?{query}")
            assert got.error == (400, "invalid_request_error", "invalid_fields"), (path, query)
    for path in ("usage", "errors"):
        assert (await rig.ask_admin("GET", f"{path}?from=2026-11-01T10:00:00Z")).status == 200


async def test_unknown_names_are_not_found(rig: Rig) -> None:
    for method, path, body in (
        ("POST", "keys", {"team": "nobody"}),
        ("GET", "keys?team=nobody", None),
        ("GET", "keys/000000000000", None),
        ("POST", "keys/000000000000/revoke", None),
        ("GET", "quota/nobody", None),
        *(("GET", f"{report}?team=nobody", None) for report in ("usage", "activity", "errors")),
    ):
        got = await rig.ask_admin(method, path, json=body)
        assert got.error == (404, "invalid_request_error", "no_such_thing"), path
