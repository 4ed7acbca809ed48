"""`gateway keys` and `gateway admin token`: their output, their changes and their refusals."""

import json
import re
import time
from datetime import datetime
from typing import Any

import pytest

from gateway.config.admin_tokens import find
from gateway.config.load import read_settings
from gateway.core.key_format import parse
from tests.support.line import Line, ids


def test_a_key_is_the_only_line_on_standard_output(filled: Line) -> None:
    done = filled.click("keys", "create", "--team", "design", "--expires", "90d")
    assert done.exit_code == 0
    key = done.stdout.removesuffix("\n")
    id = parse(key)
    assert id is not None
    assert key not in done.stderr
    assert re.fullmatch(
        rf"sk-gw-{id} for team design, valid until \S+Z\. The key is shown only once:\n",
        done.stderr,
    )


def test_keys_are_listed_without_their_secrets(filled: Line) -> None:
    with_name = filled.click("keys", "create", "--team", "design", "--name", "[b]Web shop")
    secret = with_name.stdout.strip().partition("_")[2]
    other = parse(filled.key("research"))
    for format in ("table", "json"):
        listed = filled.click("keys", "list", "--format", format).stdout
        assert "[b]Web shop" in listed
        assert secret not in listed
    only = json.loads(filled.click("keys", "list", "--team", "research", "--format", "json").stdout)
    assert [(key["id"], key["expires"]) for key in only] == [(f"sk-gw-{other}", None)]


def listed(line: Line) -> dict[str, dict[str, Any]]:
    """The keys as JSON, by id."""
    keys = json.loads(line.click("keys", "list", "--format", "json").stdout)
    return {key["id"]: key for key in keys}


def test_a_key_may_have_all_six_limits(filled: Line) -> None:
    done = filled.click(
        *("keys", "create", "--team", "design"),
        *("--images-per-day", "20", "--images-per-month", "0"),
        *("--cost-per-day-usd", "2.50", "--cost-per-month-usd", "15"),
        *("--requests-per-minute", "6", "--concurrent-requests", "2"),
    )
    id = f"sk-gw-{parse(done.stdout.strip())}"
    other = f"sk-gw-{parse(filled.key())}"
    keys = listed(filled)
    assert keys[id]["limits"] == {
        "images_per_day": 20,
        "images_per_month": 0,
        "cost_per_day_usd": "2.5",
        "cost_per_month_usd": "15",
        "requests_per_minute": 6,
        "concurrent_requests": 2,
    }
    assert set(keys[other]["limits"].values()) == {None}
    table = filled.click("keys", "list").stdout
    assert "20 images a day, 0 images a month, $2.5 a day, $15 a month, 6 requests" in table


@pytest.mark.parametrize(
    ("option", "value", "right"),
    [
        ("--expires", "90", "a whole number with its unit"),
        ("--expires", "0d", "a whole number with its unit"),
        ("--name", "a\nb", "at most 100 printable characters"),
        ("--images-per-day", "-1", "an integer from 0 to 1000000000000"),
        ("--images-per-day", "1.5", "an integer"),
        ("--requests-per-minute", "9" * 30, "an integer"),
        ("--concurrent-requests", "many", "an integer"),
        ("--cost-per-day-usd", "-1", "dollars, 0 or more"),
        ("--cost-per-month-usd", "1e3", "dollars"),
        ("--cost-per-month-usd", "0.0000001", "dollars"),
    ],
)
def test_invalid_options_of_a_key(filled: Line, option: str, value: str, right: str) -> None:
    done = filled.click("keys", "create", "--team", "design", option, value)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"must be {right}" in done.stderr
    assert option in done.stderr
    assert ids(filled) == {}


def test_a_key_is_changed(filled: Line) -> None:
    create = ("keys", "create", "--team", "design", "--expires", "1d", "--images-per-day", "5")
    id = f"sk-gw-{parse(filled.click(*create).stdout.strip())}"
    cost = ("--cost-per-month-usd", "2.50", "--images-per-day", "none")
    done = filled.click("keys", "change", id, "--name", "Shop", "--expires", "never", *cost)
    assert (done.exit_code, done.stderr) == (0, f"Changed {id} of team design.\n")
    key = listed(filled)[id]
    assert (key["name"], key["expires"]) == ("Shop", None)
    limits = {name: size for name, size in key["limits"].items() if size is not None}
    assert limits == {"cost_per_month_usd": "2.5"}
    filled.click("keys", "change", id, "--expires", "90d")
    changed = listed(filled)[id]
    assert (changed["name"], changed["limits"]) == ("Shop", key["limits"])
    assert changed["expires"] is not None


@pytest.mark.parametrize(
    "options", [(), ("--images-per-day", "-1"), ("--expires", "soon"), ("--name", "x" * 101)]
)
def test_invalid_changes(filled: Line, options: tuple[str, ...]) -> None:
    id = f"sk-gw-{parse(filled.key())}"
    before = listed(filled)
    assert filled.click("keys", "change", id, *options).exit_code == 2
    assert listed(filled) == before


def test_a_rotated_key_is_the_only_line_on_standard_output(filled: Line) -> None:
    first = filled.click(
        "keys", "create", "--team", "design", "--name", "Shop", "--images-per-day", "5"
    )
    old = f"sk-gw-{parse(first.stdout.strip())}"
    done = filled.click("keys", "rotate", old)
    assert done.exit_code == 0
    key = done.stdout.removesuffix("\n")
    new = f"sk-gw-{parse(key)}"
    assert key not in done.stderr
    assert re.fullmatch(
        rf"{old} of team design works until \S+Z\.\n"
        rf"{new} replaces it\. The key is shown only once:\n",
        done.stderr,
    )
    assert ids(filled) == {old: "retiring", new: "active"}
    keys = listed(filled)
    assert keys[new]["limits"] == keys[old]["limits"]
    assert (keys[new]["name"], keys[new]["line"], keys[old]["line"]) == ("Shop", old, old)
    grace = datetime.fromisoformat(keys[old]["grace_ends"]).timestamp() - time.time()
    assert 86_400 - 60 < grace <= 86_400
    assert keys[new]["grace_ends"] is None


def test_the_end_of_a_rotated_key_is_shown(filled: Line) -> None:
    old = f"sk-gw-{parse(filled.key())}"
    assert filled.click("keys", "rotate", old, "--grace", "soon").exit_code == 2
    filled.click("keys", "rotate", old, "--grace", "1h")
    done = filled.click("keys", "rotate", old, "--grace", "7d")
    first, _ = done.stderr.splitlines()
    assert first.endswith("Z, because it expires before the grace period ends.")
    done = filled.click("keys", "rotate", old.removeprefix("sk-gw-"), "--grace", "0s")
    assert done.stderr.startswith(f"{old} of team design no longer works.\n")


def test_changes_of_a_replaced_key_say_when_it_ends(filled: Line) -> None:
    id = f"sk-gw-{parse(filled.key())}"
    filled.click("keys", "rotate", id, "--grace", "1h")
    ends = listed(filled)[id]["grace_ends"]
    done = filled.click("keys", "change", id, "--expires", "90d")
    assert (done.exit_code, done.stderr) == (
        0,
        f"Changed {id} of team design. It was replaced and still ends on {ends}.\n",
    )
    filled.click("keys", "rotate", id, "--grace", "0s")
    done = filled.click("keys", "change", id, "--expires", "90d")
    assert done.exit_code == 1
    assert re.fullmatch(
        rf"Error: {id} was replaced and expired on \S+Z: create a new key\.\n", done.stderr
    )
    again = filled.click("keys", "rotate", id)
    assert re.match(rf"{id} of team design had expired already, on \S+Z\.\n", again.stderr)


def test_keys_are_stopped_and_let_in_again(filled: Line) -> None:
    key = filled.key()
    id = key.partition("_")[0]
    for command, state in (("disable", "disabled"), ("enable", "active"), ("revoke", "revoked")):
        done = filled.click("keys", command, id.removeprefix("sk-gw-"))
        assert (done.exit_code, done.stderr) == (0, f"{id} of team design is now {state}.\n")
        assert ids(filled) == {id: state}
    done = filled.click("keys", "enable", id)
    assert done.exit_code == 1
    assert done.stderr == f"Error: {id} is revoked, which is final: create a new key.\n"
    assert ids(filled) == {id: "revoked"}


def test_a_pasted_key_is_never_repeated(filled: Line) -> None:
    key = filled.key()
    secret = key.partition("_")[2]
    for arguments in (
        ["keys", "disable", key],
        ["keys", "disable", key, key],
        ["keys", "enable", f"x{key}"],
        ["keys", "rotate", f"x{key}"],
        ["keys", "create", "--team", "design", "--images-per-day", key],
        ["keys", key],
        [key],
        ["keys", "list", "--format", key],
        ["keys", "create", "--team", "design", "--expires", key],
    ):
        done = filled.click(*arguments)
        assert secret not in done.output
    assert list(ids(filled).values()) == ["disabled"]


# -- admin tokens -------------------------------------------------------------------------------


def test_a_token_is_printed_with_its_configuration(line: Line) -> None:
    made = line.click("admin", "token", "ops", "--role", "admin")
    token = made.stdout.strip()
    assert token not in made.stderr
    settings, _ = read_settings(made.stderr, {})
    assert find(token, settings.admin.all_tokens) == settings.admin.tokens["ops"]
    assert settings.admin.tokens["ops"].role == "admin"


def test_a_token_needs_a_valid_name(line: Line) -> None:
    assert line.click("admin", "token", "admin").exit_code == 2
