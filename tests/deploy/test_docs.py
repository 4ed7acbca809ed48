"""The pages of docs/: complete lists, examples that work, and a site that loads nothing foreign."""

import asyncio
import importlib.util
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast, get_args

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import fields
from multidict import CIMultiDict

from gateway.config.files import load_settings
from gateway.config.webhooks import Webhook, check_secret
from gateway.core import admin_errors, errors, upstream_errors
from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, month_of
from gateway.quota.account import Counters
from gateway.reporting.alerts.message import Body, headers, message
from gateway.reporting.alerts.rules import (
    Alert,
    BudgetOwner,
    Event,
    alert_id,
    budget_alerts,
    excess_alerts,
    trial_alert,
    unknown_alerts,
    upstream_alerts,
)
from gateway.telemetry.metrics import OUTCOMES, UNREADABLE
from gateway.web.admin.http import AdminRoute
from tests.support.documents import PAGES, blocks
from tests.support.receiver import SECRET
from tests.support.rig import ADMIN_TOKEN, Rig
from tests.support.tools import ROOT

ADMIN_API = PAGES[ROOT / "docs" / "admin-api.md"]
ALERTS = PAGES[ROOT / "docs" / "alerts.md"]

# -- the site -----------------------------------------------------------------------------------

SPEC = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs" / "conf.py")
assert SPEC is not None
assert SPEC.loader is not None
CONF = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(CONF)


@pytest.mark.parametrize(
    ("page", "loads"),
    [
        ('<script src="https://a.example/x.js"></script>', ["https://a.example/x.js"]),
        ("<img src=//a.example/x.png>", ["//a.example/x.png"]),
        ('<link rel="icon" href="HTTP://a.example/x.ico">', ["HTTP://a.example/x.ico"]),
        ('<a href="https://a.example/">a link is not loaded</a>', []),
        ('<img src="_images/overview.png"><link href="_static/furo.css">', []),
    ],
)
def test_it_finds_what_a_page_loads_from_another_host(page: str, loads: list[str]) -> None:
    assert list(CONF.loads_from_elsewhere(page)) == loads


@pytest.mark.parametrize(
    ("sheet", "loads"),
    [
        ('@import "https://a.example/x.css";', ["https://a.example/x.css"]),
        ("a { src: url( 'https://a.example/x.woff2') }", ["https://a.example/x.woff2"]),
        ("a { background: url(data:image/png;base64,AA) }", []),
        ("a { background: url(x.svg) }", []),
    ],
)
def test_it_finds_what_a_style_sheet_loads_from_another_host(sheet: str, loads: list[str]) -> None:
    assert list(CONF.loads_from_elsewhere(sheet, css=True)) == loads


def test_the_glossary_has_every_outcome() -> None:
    section = PAGES[ROOT / "docs" / "glossary.md"].partition("\n## Outcomes\n")[2]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    named = re.findall(r"`([a-z_]+)`", " ".join(rows[1:]))
    assert sorted(named) == sorted({*OUTCOMES, *UNREADABLE})


def test_the_pages_about_errors_have_every_code() -> None:
    pages = PAGES[ROOT / "docs" / "errors.md"] + PAGES[ROOT / "docs" / "admin-api.md"]
    codes = {
        each.code
        for each in (vars(errors) | vars(admin_errors) | vars(upstream_errors)).values()
        if isinstance(each, type) and issubclass(each, errors.GatewayError)
    }
    codes.remove("invalid_request")  # the base class's: each cause has a code of its own
    assert {code for code in codes if f"`{code}`" not in pages} == set()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("configuration.md", "configuration kept"),
        ("configuration.md", "needs a restart"),
        ("configuration.md", "upstream key kept"),
        ("runbook.md", "swept, charged as unknown"),
        ("runbook.md", "the store went back"),
    ],
)
def test_a_log_message_that_a_page_quotes_is_logged(page: str, message: str) -> None:
    assert message in PAGES[ROOT / "docs" / page]
    sources = (file.read_text() for file in (ROOT / "gateway").rglob("*.py"))
    assert any(f'"{message}' in source for source in sources)


# -- the admin API ------------------------------------------------------------------------------

ROW = re.compile(r"^\| `([A-Z]+) (/\S+)` \| (.*) \|$", re.MULTILINE)

CHANGED = {"PUT /teams/{team}", "PATCH /teams/{team}"}
"""Routes that share the fields of `POST /teams`."""


def names(of: type[Struct] | None) -> set[str]:
    return set() if of is None else {field.encode_name for field in fields(of)}


def api(rig: Rig) -> dict[str, AdminRoute]:
    routes = rig.gateway.admin_routes()
    return {f"{route.method} {route.path.removeprefix('/admin/v1')}": route for route in routes}


async def test_the_admin_apis_table_has_every_route_and_every_field(rig: Rig) -> None:
    rows = {f"{method} {path}": text for method, path, text in ROW.findall(ADMIN_API)}
    routes = api(rig)
    assert set(rows) == set(routes)
    for name, route in routes.items():
        missing = {field for field in names(route.query) | names(route.body) if
                   f"`{field}`" not in rows[name]}  # fmt: skip
        assert not missing or name in CHANGED, (name, missing)


async def test_the_admin_apis_commands_make_a_team_and_a_key(rig: Rig) -> None:
    (script,) = [block for block in blocks("sh", ADMIN_API) if "$ADMIN/" in block]
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


# -- alerts -------------------------------------------------------------------------------------

NOON = 1_772_366_400.0
"""2026-03-01 12:00:00 UTC."""

OPS = Webhook(name="ops", at_percent=(80, 95, 100))


def example_alerts() -> list[Alert]:
    """Return one alert of each event."""
    money = Counters(
        PeriodUsage(day_of(NOON), 203, 8_120_000), PeriodUsage(month_of(NOON), 203, 8_120_000)
    )
    limits = Limits(cost_per_day=10_000_000)
    ((_, budget),) = budget_alerts((BudgetOwner(team="design"), money, limits), [OPS], NOON)
    ((_, refused),) = upstream_alerts("upstream_auth", [OPS], NOON)
    ((_, exhausted),) = upstream_alerts("upstream_account_exhausted", [OPS], NOON)
    ((_, excess),) = excess_alerts("design", 1, 5, [OPS], NOON)
    ((_, unknown),) = unknown_alerts(1_320_000, [OPS], NOON)
    return [budget, refused, exhausted, excess, unknown, trial_alert("ops", NOON)]


def body(alert: Alert) -> bytes:
    return message("json", alert, alert_id(b"a store's secret", "ops", alert))


def test_the_messages_of_alerts_match_those_that_are_sent() -> None:
    shown = [msgspec.json.decode(block) for block in blocks("json", ALERTS)]
    alerts = example_alerts()
    assert {alert.event for alert in alerts} == set(get_args(Event))
    sent = [*map(body, alerts), message("slack", alerts[0], "")]
    assert shown == [msgspec.json.decode(text) for text in sent]


def test_alerts_name_every_event_and_every_field() -> None:
    named = {name for line in ALERTS.splitlines() if line.startswith("| `") for name in
             line.partition(" | ")[0].strip("| ").replace("`", "").split(", ")}  # fmt: skip
    assert named == set(get_args(Event)) | set(Body.__struct_fields__)


def test_the_configuration_of_alerts_is_valid(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("\n".join(blocks("toml", ALERTS)))
    environ = {"OPS_WEBHOOK_URL": "https://ops.example.com/x", "OPS_WEBHOOK_SECRET": SECRET}
    settings, _ = load_settings(tmp_path / "gateway.toml", environ, needs_upstream=False)
    assert set(settings.alerts.webhooks) == {"ops", "design-channel"}


@pytest.mark.parametrize(
    ("name", "instead", "genuine"),
    [
        (None, "", True),
        ("webhook-id", "msg_other", False),
        ("webhook-timestamp", "1614265330", False),
        ("webhook-signature", "v1,bm9uZQ==", False),
    ],
)
def test_five_lines_check_a_signature(name: str | None, instead: str, genuine: bool) -> None:
    (code,) = blocks("python", ALERTS)
    lines = [line for line in code.splitlines() if line.startswith("    ")]
    assert len(lines) == 5
    names = dict[str, object]()
    exec(compile(code, "alerts.md", "exec"), names)
    check = cast(Callable[[str, Mapping[str, str], bytes], bool], names["is_genuine"])
    sent = body(example_alerts()[0])
    received = CIMultiDict(headers("msg_1", sent, time.time(), check_secret(SECRET)))
    if name is not None:
        received[name] = instead
    assert check(SECRET, received, sent) is genuine
    assert not check(SECRET, received, sent + b" ")
