"""Lists on standard output."""

import json

import pytest
from msgspec.structs import replace

from gateway.cli.tables import activity_cells, key_cells, print_list, team_cells, usage_cells
from gateway.core.listing import Listing, listing
from gateway.core.model import Limits, Team
from tests.reporting.test_request_lines import LINE

KEY = {
    "id": "sk-gw-0123456789ab",
    "team": "design",
    "name": "",
    "state": "active",
    "limits": {"images_per_day": 20, "cost_per_day_usd": None, "concurrent_requests": 2},
    "created": "2023-11-14T22:13:20Z",
    "expires": None,
    "grace_ends": None,
    "last_used": None,
    "line": "sk-gw-0123456789ab",
}


def usage_row(team: str, requests: int, cost: str) -> Listing:
    return {
        "team": team,
        "requests": requests,
        "requests_refused": 5,
        "images_bought": 1,
        "images_cached": 2,
        "images_coalesced": 1,
        "images_unknown": 0,
        "cost_usd": cost,
        "saved_usd": "0",
    }


def test_json_is_the_listings_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    print_list("json", [KEY], key_cells)
    assert json.loads(capsys.readouterr().out) == [KEY]
    print_list("json", [], key_cells)
    assert capsys.readouterr().out == "[]\n"


def test_plain_tables_are_aligned_and_end_with_the_total(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [usage_row("design", 7, "0.006"), usage_row("研究", 1234, "10")]
    print_list("table", rows, usage_cells, total=usage_row("total", 1241, "10.006"))
    assert capsys.readouterr().out.splitlines() == [
        "team    requests  refused  bought  cached  shared  unknown  cost USD  saved USD",
        "design         7        5       1       2       1        0     0.006       0.00",
        "研究        1234        5       1       2       1        0    10.000       0.00",
        "total       1241        5       1       2       1        0    10.006       0.00",
    ]


def test_a_plain_table_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [KEY | {"name": name * 100} for name in ("x", "y")]
    print_list("table", rows, key_cells)
    assert "x" * 100 + "  active" in capsys.readouterr().out


def test_a_key_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert key_cells(KEY) == {
        "id": "sk-gw-0123456789ab",
        "team": "design",
        "name": "-",
        "state": "active",
        "limits": "20 images a day\n2 at the same time",
        "created": "2023-11-14 22:13",
        "expires": "never",
        "last used": "never",
        "line": "-",
    }


def test_a_key_that_was_replaced_in_a_table() -> None:
    soon, late = "2023-11-15T22:13:20Z", "2024-11-15T22:13:20Z"
    for expires, grace_ends in ((soon, late), (late, soon), (None, soon)):
        cells = key_cells(KEY | {"expires": expires, "grace_ends": grace_ends})
        assert cells["expires"] == "2023-11-15 22:13"
    cells = key_cells(KEY | {"line": "sk-gw-first", "last_used": soon, "limits": {}})
    assert (cells["line"], cells["last used"], cells["limits"]) == (
        "sk-gw-first",
        "2023-11-15 22:13",
        "none",
    )


def test_a_team_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    limits = Limits(images_per_day=200, cost_per_day=1_500_000, concurrent_requests=4)
    team = Team(name="design", sizes=("auto", "1024x1024"), cache=False, limits=limits)
    print_list("table", [listing(team)], team_cells)
    assert capsys.readouterr().out.splitlines() == [
        "team    models  sizes            qualities  max n  cache  deliver  unknown hold  limits",
        "design  all     auto, 1024x1024  all        all    off    default  default       "
        "200 images a day, $1.5 a day, 4 at the same time",
    ]
    assert team_cells(listing(Team(name="free")))["limits"] == "none"
    assert team_cells(listing(Team(name="free", unknown_hold_seconds=90)))["unknown hold"] == "90 s"


def test_a_request_shows_why_it_failed() -> None:
    refused = LINE.refused_by
    assert refused is not None
    stands = "cost_per_day_usd of team red: 1 and 0.5 held of 1.5 used, 0.04 asked"
    gateway = replace(refused, scope="gateway", owner=None, held="0", resets_at=None)
    failed = {"refused_by": None}
    for changes, cause in (
        ({}, f"{stands}, resets at 2026-03-01T12:01:00Z"),
        ({"refused_by": gateway}, "cost_per_day_usd of gateway: 1 of 1.5 used, 0.04 asked"),
        (failed, "upstream 500: no ü"),
        ({**failed, "reason": None}, "upstream 500"),
        ({**failed, "upstream_status": None, "reason": None}, "-"),
    ):
        assert activity_cells(listing(replace(LINE, **changes)))["cause"] == cause
