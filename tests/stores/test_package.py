"""A built package has the files that stores read: scripts and migrations."""

from pathlib import Path
from zipfile import ZipFile

import flit_core.buildapi  # type: ignore[import-untyped]
import pytest

import gateway

PACKAGE = Path(gateway.__file__).parent


def test_a_built_package_has_every_script_and_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PACKAGE.parent)
    wheel = flit_core.buildapi.build_wheel(str(tmp_path))
    with ZipFile(tmp_path / wheel) as package:
        inside = {name for name in package.namelist() if name.endswith((".lua", ".sql"))}
    files = [*PACKAGE.rglob("*.lua"), *PACKAGE.rglob("*.sql")]
    assert inside == {str(file.relative_to(PACKAGE.parent)) for file in files}
    assert len(inside) > 30
