"""Command lines in folders of their own."""

from pathlib import Path
from shutil import copytree

import pytest

from tests.support.line import Line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """A command line without a store."""
    return Line(tmp_path)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pepper and a store that has the teams."""
    line = Line(tmp_path_factory.mktemp("filled"))
    assert line.click("teams", "apply", "teams.toml").exit_code == 0
    return line.folder / "data"


@pytest.fixture
def filled(line: Line, data: Path) -> Line:
    """A command line whose store has the teams."""
    copytree(data, line.folder / "data")
    return line
