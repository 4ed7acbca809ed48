"""The Grafana dashboard: its panels are complete, described, and use existing metrics."""

import re
from typing import Any

import pytest
import yaml

from gateway.telemetry.metrics import Metrics
from tests.core.test_errors import EXAMPLES
from tests.support.promql import (
    DASHBOARD,
    PANELS,
    ROWS,
    alerts,
    names,
    of_panels,
    of_rules,
    recorded,
)
from tests.support.steps import gauges_of
from tests.support.tools import DEPLOY, ROOT

PROVISIONING = DEPLOY / "grafana" / "provisioning"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def series() -> set[str]:
    """The names of all series of a gateway."""
    metrics = Metrics()
    metrics.registry.register(gauges_of({}, 0.0))
    found = set[str]()
    for family in metrics.registry.collect():
        ends = {
            "counter": ["_total"],
            "histogram": ["_bucket", "_sum", "_count"],
        }.get(family.type, [""])
        found |= {family.name + end for end in ends}
    return found


def test_its_rows_answer_the_first_questions() -> None:
    assert [row["title"] for row in ROWS] == [
        *("Golden signals", "Money", "Quota", "Cache", "Upstream", "Runtime"),
    ]
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["team", "instance"]
    assert DASHBOARD["schemaVersion"] >= 39


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    refs = [target["refId"] for target in panel["targets"]]
    assert refs
    assert len(set(refs)) == len(refs)
    assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("asked", [*of_panels("1m"), *of_rules()], ids=lambda asked: asked.where)
def test_each_query_names_existing_metrics(asked: Any) -> None:
    named = names(asked.text)
    assert named or asked.where.startswith("gateway:month_seconds_")
    assert named <= series() | recorded() | {"up"}


def test_every_recorded_series_is_used() -> None:
    used = set().union(*(names(asked.text) for asked in [*of_panels("1m"), *of_rules()]))
    assert recorded() <= used


def test_panels_are_distinct_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    taken = set[tuple[int, int]]()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        taken |= cells


def test_the_share_of_failures_knows_every_failure() -> None:
    failures, refusals = (
        re.compile(re.findall(r'outcome=~"([^"]*)"', asked.text)[0])
        for asked in of_panels("1m")
        if asked.where in ("Share of 5xx and 429 A", "Share of 5xx and 429 B")
    )
    for error in EXAMPLES:
        if error.outcome in ("not_cached", "invalid_request", "polled"):  # or counted before
            continue
        assert bool(failures.fullmatch(error.outcome)) == (error.status >= 500), error
        if error.outcome != "upstream_refused":
            assert bool(refusals.fullmatch(error.outcome)) == (error.status == 429), error


def test_files_are_found_where_grafana_looks_for_them() -> None:
    [source] = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "gateway.yaml").read_text())[
        "providers"
    ]
    volumes = COMPOSE["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in volumes
    assert source["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}


def test_the_share_of_refusals_includes_those_of_the_upstream() -> None:
    [share] = [asked for asked in of_panels("1m") if asked.where == "Share of 5xx and 429 C"]
    assert 'gateway_upstream_requests_total{status="429"' in share.text


def test_the_page_about_monitoring_counts_the_alerts() -> None:
    words = {11: "eleven", 12: "twelve", 13: "thirteen"}
    page = (ROOT / "docs" / "monitoring.md").read_text()
    assert f"(../deploy/prometheus/alerts.yml) has {words[len(alerts())]}:" in page


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_each_alert_explains_itself_and_the_remedy(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    notes = alert["annotations"]
    assert notes["summary"]
    assert notes["description"].endswith(".")
    assert notes["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    section = runbook.partition(f"\n## {alert['alert']}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^- \*\*(\w+)\*\*", section, re.MULTILINE) == ["Means", "Look", "Do"]
    tests = "".join(file.read_text() for file in (DEPLOY / "prometheus").glob("tests*.yml"))
    assert f'alertname="{alert["alert"]}"' in tests
