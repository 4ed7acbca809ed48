"""The expressions for Prometheus: the rules in deploy/prometheus and the dashboard's queries."""

import json
import re
from functools import cache
from typing import Any, NamedTuple

import yaml

from tests.support.tools import DEPLOY

PROMETHEUS = DEPLOY / "prometheus"
RULE_FILES = [PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml"]
DASHBOARD: dict[str, Any] = json.loads(
    (DEPLOY / "grafana" / "dashboards" / "gateway.json").read_text()
)
ROWS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

_SELECTOR = re.compile(r"(?<![\w:$\"])((?:\w+:)?gateway[\w:]*|up)(\{[^}]*\})?(?![\w(])")
_TEXT = re.compile(r'"[^"]*"')


class Asked(NamedTuple):
    """An expression and its place."""

    where: str
    text: str


@cache
def rules() -> list[dict[str, Any]]:
    """All rules, in their order."""
    return [
        rule
        for file in RULE_FILES
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    """The alerting rules."""
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    """The names of recorded series."""
    return {rule["record"] for rule in rules() if "record" in rule}


def of_rules() -> list[Asked]:
    """Each rule's expression, under the rule's name."""
    return [Asked(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]


def of_panels(range: str) -> list[Asked]:
    """Each panel's queries for all teams and gateways, with this range for Grafana's own."""
    return [
        Asked(f"{panel['title']} {target['refId']}", _filled_in(target["expr"], range))
        for panel in PANELS
        for target in panel["targets"]
    ]


def _filled_in(text: str, range: str) -> str:
    text = text.replace("$__rate_interval", range)
    return text.replace("$team", ".*").replace("$instance", ".*")


def selectors(text: str) -> list[str]:
    """The series that an expression names, with their labels."""
    return [name + labels for name, labels in _SELECTOR.findall(text)]


def names(text: str) -> set[str]:
    """The metrics that an expression names."""
    return {name for name, _ in _SELECTOR.findall(_TEXT.sub('""', text))}
