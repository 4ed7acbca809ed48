"""Starting a process that cannot start: one clear line each, exit code 1, and nothing left."""

import asyncio
import random
import shutil
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.program import Program, program

UPSTREAM = {"UPSTREAM_BASE_URL": "http://127.0.0.1:9", "UPSTREAM_API_KEY": "sk-upstream"}


async def refused(gateway: Program, *arguments: str, code: int = 1) -> str:
    """The one line that a start fails with."""
    found, out, err = await gateway.run("serve", *arguments)
    assert found == code, err
    assert out == ""
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize("name", ["SERVER_PORT", "SERVER_ADMIN_PORT"])
@pytest.mark.parametrize("arguments", [(), ("--demo",), ("--sandbox",)])
async def test_a_taken_port(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        upstream = UPSTREAM if not arguments else {}
        line = await refused(Program(tmp_path, **{name: port}, **upstream), *arguments)
    assert line.startswith(f"Error: Port {port} on 127.0.0.1 is taken: ")


async def test_an_address_that_is_not_this_machines(tmp_path: Path) -> None:
    line = await refused(Program(tmp_path, SERVER_HOST="203.0.113.1", **UPSTREAM))
    assert line.startswith("Error: Cannot listen on 203.0.113.1 port ")


async def test_a_host_that_does_not_exist(tmp_path: Path) -> None:
    line = await refused(Program(tmp_path, SERVER_HOST="nowhere.invalid", **UPSTREAM))
    assert line.startswith("Error: Cannot listen on nowhere.invalid port ")
    assert "Success" not in line


@pytest.mark.parametrize(
    ("arguments", "file"),
    [((), "The pepper file data/pepper"), (("--demo",), "The demo's file data/demo-admin.token")],
)
async def test_an_unwritable_data_directory(
    tmp_path: Path, arguments: tuple[str, ...], file: str
) -> None:
    (tmp_path / "data").write_text("a file in the directory's place")
    line = await refused(Program(tmp_path, **({} if arguments else UPSTREAM)), *arguments)
    assert line.startswith(f"Error: {file} cannot be used: ")


async def test_a_store_where_nothing_can_be_written(tmp_path: Path) -> None:
    line = await refused(Program(tmp_path, STORE_URL="sqlite:/proc/my.db", **UPSTREAM))
    assert "database /proc/my.db cannot be used: " in line


async def test_a_key_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data" / "demo.key").mkdir(parents=True)
    code, _, err = await Program(tmp_path).run("serve", "--demo")
    assert code == 1
    last = err.splitlines()[-1]  # it was listening already, and logged so
    assert last == "Error: The demo's file data/demo.key cannot be used: Is a directory."


async def make_store(folder: Path) -> None:
    (folder / "teams.toml").write_text("[teams.one]\n")
    assert (await Program(folder).run("teams", "apply", "teams.toml"))[0] == 0


async def test_a_missing_pepper_is_not_made_anew(tmp_path: Path) -> None:
    await make_store(tmp_path)
    (tmp_path / "data" / "pepper").unlink()
    assert "is missing, and the database" in await refused(Program(tmp_path, **UPSTREAM))
    assert not (tmp_path / "data" / "pepper").exists()


async def test_the_pepper_of_another_store(tmp_path: Path) -> None:
    await make_store(tmp_path)
    other = Program(tmp_path, KEYS_PEPPER="another pepper of enough bytes", **UPSTREAM)
    line = await refused(other)
    assert "pepper does not belong to the store" in line
    assert "another pepper" not in line


async def test_a_newer_database(tmp_path: Path) -> None:
    await make_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "data" / "gateway.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "newer gateway" in await refused(Program(tmp_path, **UPSTREAM))


async def test_a_locked_database(tmp_path: Path) -> None:
    await make_store(tmp_path)
    database = tmp_path / "data" / "gateway.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert "locked" in await refused(Program(tmp_path, **UPSTREAM))


async def test_a_damaged_database(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gateway.db").write_bytes(b"no database" * 1000)
    (tmp_path / "data" / "pepper").write_text("a pepper of enough bytes")
    assert "is not a SQLite database" in await refused(Program(tmp_path, **UPSTREAM))


async def test_no_upstream_key_file(tmp_path: Path) -> None:
    base = {"UPSTREAM_BASE_URL": "http://127.0.0.1:9"}
    missing = Program(tmp_path, UPSTREAM_API_KEY_FILE="nowhere", **base)
    assert await refused(missing) == (
        "Error: The upstream key cannot be used: "
        "the file nowhere cannot be read: No such file or directory."
    )
    (tmp_path / "empty").write_text("\n")
    empty = Program(tmp_path, UPSTREAM_API_KEY_FILE="empty", **base)
    assert "upstream key cannot be used" in await refused(empty)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    binary = Program(tmp_path, UPSTREAM_API_KEY_FILE="binary", **base)
    assert "upstream key cannot be used" in await refused(binary)


async def test_a_faulty_configuration_is_told_whole(tmp_path: Path) -> None:
    found, out, err = await Program(tmp_path, SERVER_PORT="x", CACHE_ENABLED="maybe").run("serve")
    assert (found, out) == (2, "")
    assert "GATEWAY_SERVER_PORT" in err
    assert "GATEWAY_CACHE_ENABLED" in err
    assert "base_url" in err
    assert "Traceback" not in err


async def test_a_failed_start_leaves_nothing_running(tmp_path: Path) -> None:
    """Sandbox, store and admin port are open already when the public port turns out taken."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = await refused(Program(tmp_path, SERVER_PORT=port), "--demo")
        assert "is taken" in line
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
                # Before any code of ours runs, Python itself loses one in some hundred.
                gateway.send(number)
                ended = await gateway.ended(5)
            assert ended in (0, 1, -number)
            shutil.rmtree(tmp_path / "data", ignore_errors=True)
