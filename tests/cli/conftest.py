"""Command lines in folders of their own."""

from pathlib import Path

import pytest

from tests.support.line import Line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """A command line without a store."""
    return Line(tmp_path)


@pytest.fixture
def filled(line: Line) -> Line:
    """A command line whose store has the teams."""
    assert line.click("teams", "apply", "teams.toml").exit_code == 0
    return line
