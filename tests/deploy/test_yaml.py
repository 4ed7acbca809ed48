"""Every YAML file, as it is written."""

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
def test_it_is_well_written(file: str) -> None:
    passes("yamllint", "--strict", Path(file))
