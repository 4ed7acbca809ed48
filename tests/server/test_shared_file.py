"""Several gateways over one database file: each one is warned, and nobody else."""

import asyncio
import json
from pathlib import Path

from structlog.testing import capture_logs

from gateway.config.store_url import StoreUrl
from gateway.server.shared_file import SharedFileWatch
from tests.support.process import Program, invoke, program
from tests.support.steps import until

WARNING = "another gateway serves this database"


def warnings(running: Program) -> int:
    lines = [json.loads(line) for line in running.err.splitlines()]
    return sum(line["event"].startswith(WARNING) for line in lines)


async def test_a_second_gateway_is_warned_about_and_a_killed_one_is_forgotten(
    tmp_path: Path,
) -> None:
    async with (
        program(tmp_path, name="a", LOG_FORMAT="json") as first,
        program(tmp_path, name="b", LOG_FORMAT="json") as second,
    ):
        await first.start("serve", "--demo")
        await first.printed("Ctrl-C stops it.")
        environ = {"GATEWAY_STORE_URL": "sqlite:data/sandbox.db"}
        done = await asyncio.to_thread(invoke, tmp_path, ["keys", "list"], environ)
        assert (done.exit_code, done.stderr) == (0, "")
        assert not warnings(first)
        await second.start("serve", "--demo")
        await second.listening()
        assert (warnings(first), warnings(second)) == (0, 1)
        await first.kill()
        await second.kill()
        await first.start("serve", "--demo")
        await first.listening()
        assert warnings(first) == 0


def watch(database: Path) -> SharedFileWatch:
    return SharedFileWatch(StoreUrl(kind="sqlite", path=str(database)), watch_seconds=0.02)


async def test_those_that_serve_already_are_warned_too(tmp_path: Path) -> None:
    database, link = tmp_path / "my.db", tmp_path / "link.db"
    link.symlink_to(database)
    with capture_logs() as lines:
        async with watch(database):
            async with watch(link):
                await until(lambda: len(lines) == 2)
                async with watch(database):
                    await until(lambda: len(lines) == 5)
            await asyncio.sleep(0.1)  # the end of another one is no news
        async with watch(database):
            await asyncio.sleep(0.1)
    assert len(lines) == 5
    assert {line["log_level"] for line in lines} == {"warning"}


async def test_without_a_lock_there_is_no_warning(tmp_path: Path) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            async with watch(tmp_path / "missing" / "my.db"):
                pass
    assert lines == []
