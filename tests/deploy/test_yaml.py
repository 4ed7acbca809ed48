"""The style of every YAML file."""

from pathlib import Path

import pytest

from tests.support.tools import DEPLOY, ROOT, passes

FILES = sorted(
    str(file.relative_to(ROOT))
    for folder in (DEPLOY, ROOT / ".github")
    for pattern in ("*.yaml", "*.yml")
    for file in folder.rglob(pattern)
)


@pytest.mark.parametrize("file", FILES)
def test_it_passes_yamllint(file: str) -> None:
    passes("yamllint", "--strict", Path(file))
