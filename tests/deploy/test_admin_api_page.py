"""docs/admin-api.md: its table has every route and field, and its commands work as printed."""

import asyncio
import os
import re

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from gateway.web.admin.http import AdminRoute
from tests.support.documents import blocks
from tests.support.rig import ADMIN_TOKEN, Rig
from tests.support.tools import ROOT

PAGE = (ROOT / "docs" / "admin-api.md").read_text()

ROW = re.compile(r"^\| `([A-Z]+) (/\S+)` \| (.*) \|$", re.MULTILINE)

CHANGED = {"PUT /teams/{team}", "PATCH /teams/{team}"}
"""Routes that share the fields of `POST /teams`."""


def names(of: type[Struct] | None) -> set[str]:
    return set() if of is None else {field.encode_name for field in fields(of)}


def api(rig: Rig) -> dict[str, AdminRoute]:
    routes = rig.gateway.admin_routes()
    return {f"{route.method} {route.path.removeprefix('/admin/v1')}": route for route in routes}


async def test_its_table_has_every_route_and_every_field(rig: Rig) -> None:
    rows = {f"{method} {path}": text for method, path, text in ROW.findall(PAGE)}
    routes = api(rig)
    assert set(rows) == set(routes)
    for name, route in routes.items():
        missing = {field for field in names(route.query) | names(route.body) if
                   f"`{field}`" not in rows[name]}  # fmt: skip
        assert not missing or name in CHANGED, (name, missing)


async def test_its_commands_make_a_team_and_a_key(rig: Rig) -> None:
    (script,) = [block for block in blocks("sh", PAGE) if "$ADMIN/" in block]
    process = await asyncio.create_subprocess_exec(
        *("sh", "-e"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "ADMIN": rig.gateway.admin_url,
            "GATEWAY_ADMIN_TOKEN": ADMIN_TOKEN,
        },
    )
    # One line for each answer.
    script = script.replace("curl -sS", r"curl -sS -w '\n'")
    out, err = await asyncio.wait_for(process.communicate(script.encode()), 60)
    assert (process.returncode, err) == (0, b"")
    team, key, quota = map(msgspec.json.decode, out.splitlines())
    assert (team["team"], team["limits"]["images_per_day"]) == ("design", 200)
    assert (key["name"], key["expires"] is None) == ("Web shop", False)
    assert {limit["size"] for limit in quota["limits"]} == {200, "50"}
    await rig.gateway.directory.refresh()
    assert (await rig.generate(key["key"])).status == 200
