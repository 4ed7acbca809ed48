"""The wheel, installed into an empty environment with its dependencies alone."""

import asyncio
from pathlib import Path

import pytest

from tests.support.installed import copy_sources, new_environment, run_step, serve_a_picture


def install(folder: Path) -> Path:
    """Build the wheel and install it. Returns the environment."""
    source, installed = folder / "src", folder / "installed"
    copy_sources(source, ("pyproject.toml", "README.md", "LICENSE", "gateway"))
    new_environment(installed)
    pip = str(installed / "bin" / "pip")

    def run(*words: str) -> None:
        run_step([pip, *words], source)

    run("wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", ".")
    (wheel,) = (source / "dist").iterdir()
    run("install", "--quiet", "--only-binary", ":all:", str(wheel))
    run("check")
    return installed


@pytest.mark.exhaustive
async def test_the_wheel_serves_a_picture_with_its_dependencies_alone(tmp_path: Path) -> None:
    installed = await asyncio.to_thread(install, tmp_path)
    await serve_a_picture([str(installed / "bin" / "gateway"), "serve"])
