""".github: the workflow and the updates of dependencies; and the style of every YAML file."""

import re
from typing import Any

import pytest
import yaml

from tests.support.tools import DEPLOY, ROOT, follows, passes

FOLDER = ROOT / ".github"
CI = FOLDER / "workflows" / "ci.yml"
WORKFLOW: dict[str, Any] = yaml.safe_load(CI.read_text())


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.github-workflows", "workflows/ci.yml"),
        ("custom.github-workflows-require-timeout", "workflows/ci.yml"),
        ("vendor.renovate", "renovate.json"),
    ],
)
def test_it_follows_its_schema(schema: str, file: str) -> None:
    follows(schema, FOLDER / file)


def test_zizmor_finds_nothing_dangerous() -> None:
    passes("zizmor", "--offline", "--persona=auditor", FOLDER)


def test_each_action_is_pinned_by_its_whole_commit() -> None:
    used = re.findall(r"uses: (.*)", CI.read_text())
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used)


def test_jobs_may_read_and_nothing_more() -> None:
    assert WORKFLOW["permissions"] == {}
    assert all(job["permissions"] == {"contents": "read"} for job in WORKFLOW["jobs"].values())


def test_every_supported_python_is_tested() -> None:
    assert WORKFLOW["jobs"]["check"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


YAML = sorted(
    str(file.relative_to(ROOT))
    for folder in (DEPLOY, ROOT / ".github")
    for pattern in ("*.yaml", "*.yml")
    for file in folder.rglob(pattern)
)


def test_every_yaml_file_passes_yamllint() -> None:
    passes("yamllint", "--strict", *YAML)
