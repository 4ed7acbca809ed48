"""Prometheus' and Grafana's files name metrics that there are, and say what they show."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from gateway.metrics import Metrics
from tests.support.documents import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus" / "prometheus.yml"
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "deploy" / "grafana" / "dashboards" / "gateway.json").read_text()
)
GRAPHS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def known() -> set[str]:
    """The names of all series that a gateway tells, and those of its quota gauges."""
    names = {"gateway_quota_limit", "gateway_quota_used", "gateway_reservations_open"}
    for family in Metrics(lambda: 0).registry.collect():
        names.add(family.name)
        names |= {f"{family.name}_{end}" for end in ("total", "bucket", "sum", "count")}
    return names


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])
def test_every_graph_shows_what_there_is_and_says_what_it_is(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        named = set(re.findall(r"gateway_\w+", target["expr"]))
        assert named
        assert named <= known()


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set[tuple[int, int]]()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        taken |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_its_configuration() -> None:
    command = ["promtool", "check", "config", str(PROMETHEUS)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
