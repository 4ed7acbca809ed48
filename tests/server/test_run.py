"""A process that cannot start: one line on standard error, exit code 1, and nothing left behind.

The reasons themselves are tested in `tests/server/test_startup.py`.
"""

import asyncio
import random
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.process import Program, program

UPSTREAM = {"UPSTREAM_BASE_URL": "http://127.0.0.1:9", "UPSTREAM_API_KEY": "sk-upstream"}


async def refused(gateway: Program, *arguments: str) -> str:
    """The one line that a start fails with."""
    code, out, err = await gateway.run("serve", *arguments)
    assert (code, out) == (1, ""), err
    (line,) = err.splitlines()
    return line


@contextmanager
def taken_port() -> Iterator[str]:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield str(taken.getsockname()[1])


@pytest.mark.parametrize("name", ["SERVER_PORT", "SERVER_ADMIN_PORT"])
async def test_a_taken_port(tmp_path: Path, name: str) -> None:
    with taken_port() as port:
        line = await refused(Program(tmp_path, **{name: port}, **UPSTREAM))
    assert line.startswith(f"Error: Port {port} on 127.0.0.1 is in use: ")


@pytest.mark.parametrize("host", ["203.0.113.1", "nowhere.invalid"])
async def test_an_address_that_is_not_this_machines(tmp_path: Path, host: str) -> None:
    line = await refused(Program(tmp_path, SERVER_HOST=host, **UPSTREAM))
    assert line.startswith(f"Error: Cannot listen on {host} port ")
    assert "Success" not in line


async def test_an_unwritable_data_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the directory's place")
    line = await refused(Program(tmp_path, **UPSTREAM))
    assert line.startswith("Error: The pepper file data/pepper cannot be used: ")


async def test_all_faults_of_a_configuration_are_reported(tmp_path: Path) -> None:
    found, out, err = await Program(tmp_path, SERVER_PORT="x", CACHE_ENABLED="maybe").run("serve")
    assert (found, out) == (2, "")
    assert "GATEWAY_SERVER_PORT" in err
    assert "GATEWAY_CACHE_ENABLED" in err
    assert "GATEWAY_UPSTREAM_BASE_URL" in err
    assert "Traceback" not in err


async def test_a_failed_start_leaves_nothing_running(tmp_path: Path) -> None:
    """Sandbox and store are open already when the public port turns out to be taken."""
    with taken_port() as port:
        assert "is in use" in await refused(Program(tmp_path, SERVER_PORT=port), "--demo")
    names = {file.name for file in (tmp_path / "data").iterdir()}
    assert names == {"demo-admin.token", "pepper", "sandbox.db"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_at_any_moment_of_the_start_ends_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with program(tmp_path) as gateway:
        for _ in range(6):
            await gateway.start("serve", "--demo")
            await asyncio.sleep(random.uniform(0.15, 0.7))
            gateway.send(number)
            try:
                ended = await gateway.ended(5)
            except TimeoutError:
                if number != signal.SIGINT:
                    raise
                # Python itself loses about one SIGINT in a hundred before it runs any code of ours.
                gateway.send(number)
                ended = await gateway.ended(5)
            assert ended in (0, 1, -number)
            shutil.rmtree(tmp_path / "data", ignore_errors=True)
