"""The log of changes and admin tokens on the command line."""

import json

from gateway.config.admin_tokens import find
from gateway.config.load import read_settings
from tests.support.line import Line


def test_changes_by_the_command_line_are_in_the_audit_log(line: Line) -> None:
    line.click("teams", "apply", "teams.toml")
    key = line.click("keys", "create", "--team", "design").stdout.strip()
    line.click("keys", "disable", key)
    found = line.click("audit", "--team", "design", "--format", "json")
    disabled, made, team = json.loads(found.stdout)
    assert (team["action"], team["before"]) == ("team.create", None)
    assert team["after"]["limits"]["images_per_day"] == 200
    assert (made["action"], made["key"]) == ("key.create", key.partition("_")[0])
    assert (disabled["before"]["state"], disabled["after"]["state"]) == ("active", "disabled")
    assert all(entry["who"].startswith("command line as ") for entry in (disabled, made, team))
    assert key.partition("_")[2] not in found.stdout
    table = line.click("audit").stdout
    assert "state: active -> disabled" in table
    assert len(table.splitlines()) == 5  # titles, three of design's, one of research's


def test_the_audit_log_of_some_days(line: Line) -> None:
    line.click("teams", "apply", "teams.toml")
    assert json.loads(line.click("audit", "--to", "2026-01-01", "--format", "json").stdout) == []
    assert line.click("audit", "--from", "2026-01-02", "--to", "2026-01-01").exit_code == 2
    assert (
        "There are no changes in this period." in line.click("audit", "--to", "2026-01-01").stderr
    )


def test_a_token_is_printed_with_its_configuration(line: Line) -> None:
    made = line.click("admin", "token", "ops", "--role", "admin")
    token = made.stdout.strip()
    assert token not in made.stderr
    settings, _ = read_settings(made.stderr, {})
    assert find(token, settings.admin.all_tokens) == settings.admin.tokens["ops"]
    assert settings.admin.tokens["ops"].role == "admin"


def test_a_token_needs_a_valid_name(line: Line) -> None:
    assert line.click("admin", "token", "admin").exit_code == 2
