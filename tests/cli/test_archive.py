"""`gateway store`: export, import and confirm-reset, against real stores."""

import asyncio
import json
import re
import resource
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.settings import KeySettings
from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.core.key_format import pepper_check
from gateway.server.startup import load_pepper
from gateway.stores.archive_format import ArchiveRecord, CheckRecord
from gateway.stores.port import UnusableStore
from gateway.stores.redis import RedisStore
from tests.support.line import Line
from tests.support.redis import RedisServer, running_redis
from tests.support.states import archived, history, state


class Machine(Line):
    """A command line with a configuration of its own."""

    def __init__(self, folder: Path, url: str = "sqlite:data/gateway.db") -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder)
        (folder / "teams.toml").unlink()
        self.environ["GATEWAY_STORE_URL"] = url

    def done(self, *arguments: str) -> str:
        """Run a command that must succeed, and return its standard output."""
        ended = self.click(*arguments)
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    def refused(self, *arguments: str) -> str:
        """Run a command that must fail with one line, and return that line."""
        ended = self.click(*arguments)
        assert (ended.exit_code, ended.stdout) == (1, "")
        (line,) = ended.stderr.splitlines()
        return line.removeprefix("Error: ")

    def file(self, archive: str) -> str:
        """Write an archive beside the machine's folder, and return the path."""
        path = self.folder.with_suffix(".jsonl")
        path.write_text(archive)
        return str(path)

    def content(self) -> list[Any]:
        """Keys, teams, usage and the audit log, as the command line lists them."""
        return [
            json.loads(self.done(*command, "--format", "json"))
            for command in (
                ("teams", "list"),
                ("keys", "list"),
                ("usage", "--by", "team", "--by", "key", "--by", "day", "--from", "2026-01-01"),
                ("audit", "--from", "2026-01-01"),
            )
        ]

    def take_pepper_of(self, other: "Machine") -> None:
        (self.folder / "data").mkdir()
        (self.folder / "data" / "pepper").write_bytes(other.pepper)

    @property
    def pepper(self) -> bytes:
        return (self.folder / "data" / "pepper").read_bytes()

    def archive(self, count: int = 0) -> str:
        """An archive with so many usage entries, for this machine's pepper, which is created."""
        file = self.folder / "data" / "pepper"
        pepper = load_pepper(KeySettings(pepper_file=str(file)), parse_store_url("sqlite:none"))
        records: list[ArchiveRecord] = [CheckRecord("pepper", pepper_check(pepper))]
        return archived([*records, *state(history(count))[1:]]).decode()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One with teams, a key, a rotated one, and a bit of everything imported."""
    made = Machine(tmp_path / "machine")
    (made.folder / "state").write_text(made.archive(200))
    made.done("store", "import", "state")
    return made


@pytest.fixture
def other(machine: Machine, tmp_path: Path) -> Machine:
    """An empty one with the same pepper."""
    made = Machine(tmp_path / "other")
    made.take_pepper_of(machine)
    return made


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as server:
        yield server


# -- there and back -----------------------------------------------------------------------------


def test_a_file_is_private_and_summarised(machine: Machine) -> None:
    ended = machine.click("store", "export", "backup.jsonl")
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert (
        ended.stderr
        == "exported: 3 teams, 3 keys, 3 accounts, 4 audit entries, 200 usage entries\n"
    )
    file = machine.folder / "backup.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in machine.folder.iterdir()} == {"data", "state", "backup.jsonl"}


def test_an_archive_has_no_secret(machine: Machine) -> None:
    key = machine.done("keys", "create", "--team", "red", "--name", "Canary").strip()
    id, _, secret = key.removeprefix("sk-gw-").partition("_")
    archive = machine.done("store", "export")
    assert id in archive
    assert "Canary" in archive
    pepper = machine.pepper.decode().strip()
    for text in (secret, pepper):
        for start in range(len(text) - 8):
            assert text[start : start + 8] not in archive


async def test_there_and_back_over_redis_and_through_pipes(
    machine: Machine, other: Machine, redis: RedisServer, tmp_path: Path
) -> None:
    shared = Machine(tmp_path / "shared", redis.url)
    shared.take_pepper_of(machine)
    pieces = "3 teams, 3 keys, 3 accounts, 4 audit entries, 200 usage entries\n"
    exported = await asyncio.to_thread(machine.run, "store", "export", "-")
    assert (exported.returncode, exported.stderr) == (0, f"exported: {pieces}")
    imported = await asyncio.to_thread(shared.run, "store", "import", stdin=exported.stdout)
    assert (imported.returncode, imported.stdout) == (0, "")
    assert imported.stderr == f"imported into {redis.url}: {pieces}"

    def back() -> None:
        other.done("store", "import", other.file(shared.done("store", "export")))
        before = machine.content()
        assert all(before)
        assert other.content() == before

    await asyncio.to_thread(back)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("store", "export", "all.jsonl"), r"exporting.*\d+.* bytes"),
        (("store", "import", "state"), r"importing.*(\d+\.\d)/\1 kB"),
        (("usage", "--format", "json"), "reading usage"),
    ],
    ids=["export", "import", "usage"],
)
def test_a_terminal_shows_progress(machine: Machine, command: tuple[str, ...], shown: str) -> None:
    if "import" in command:
        (machine.folder / "data" / "gateway.db").unlink()
    assert re.search(shown, machine.show(*command), re.DOTALL)


# -- refusals -----------------------------------------------------------------------------------


def test_a_damaged_archive_changes_nothing(machine: Machine, other: Machine) -> None:
    archive = machine.done("store", "export")
    lines = archive.splitlines(keepends=True)
    cut, flipped = "".join(lines[:-9]), archive.replace('"requests":1,', '"requests":7,', 1)
    for damaged, why in (
        (cut, f"The archive is cut off: it ends after line {len(lines) - 9}."),
        (flipped, "The archive is damaged: it does not match its checksum."),
        ("".join([*lines[:5], "{}\n", *lines[6:]]), "Line 6 is damaged or unknown: "),
    ):
        assert other.refused("store", "import", other.file(damaged)).startswith(why)
    other.done("store", "import", other.file(archive))
    assert other.content() == machine.content()


def test_a_store_that_has_something_is_left_alone(machine: Machine) -> None:
    before = machine.content()
    archive = machine.file(machine.archive(10))
    assert machine.refused("store", "import", archive).startswith("The store is not empty")
    assert machine.content() == before


def test_without_the_pepper_no_store_is_made(machine: Machine, tmp_path: Path) -> None:
    stranger = Machine(tmp_path / "stranger")
    archive = str(machine.folder / "state")
    assert stranger.refused("store", "import", archive).startswith(
        "The pepper file data/pepper cannot be used: No such file"
    )
    stranger.environ["GATEWAY_KEYS_PEPPER"] = "another pepper " * 4
    assert stranger.refused("store", "import", archive).startswith(
        "The archive's keys were made with another pepper"
    )
    assert list(stranger.folder.iterdir()) == []


def test_unusable_files(machine: Machine) -> None:
    for command in ("export", "import"):
        shown = machine.refused("store", command, "missing/file")
        assert shown == "Cannot use the file missing/file: No such file or directory."
    assert machine.refused("store", "import", "data").endswith("Is a directory.")
    empty = Machine(machine.folder / "empty")
    assert empty.refused("store", "export", "file").startswith("There is no database")
    assert not (empty.folder / "file").exists()


# -- interruptions ------------------------------------------------------------------------------


def test_a_back_up_is_replaced_only_by_force(machine: Machine) -> None:
    file = machine.folder / "backup"
    file.write_text("a former one")
    assert machine.refused("store", "export", "backup") == (
        "The file backup exists. Choose another name, or use --force."
    )
    assert file.read_text() == "a former one"
    machine.done("store", "export", "backup", "--force")
    assert file.read_text().startswith('{"kind":"header"')


def test_an_export_that_the_disk_is_too_small_for_leaves_the_former_file(machine: Machine) -> None:
    machine.done("store", "export", "backup")
    former = (machine.folder / "backup").read_bytes()

    def bound() -> None:
        # A write beyond it would end the process unless the system call fails instead.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    ended = machine.run("store", "export", "backup", "--force", before=bound)
    assert ended.returncode == 1
    assert ended.stderr == "Error: Cannot use the file backup: File too large.\n"
    assert (machine.folder / "backup").read_bytes() == former
    assert {path.name for path in machine.folder.iterdir()} == {"data", "state", "backup"}


MANY = 3_000
"""Usage entries of an archive that takes several writes, and does not fit into a pipe."""


def half_imported(machine: Machine, archive: str) -> None:
    """Kill an import that has all but the archive's end."""
    with machine.start("store", "import") as importing:
        assert importing.stdin is not None
        importing.stdin.write(archive[: -len(archive) // 10])
        importing.stdin.flush()  # done when all but what fits into the pipe was read
        importing.kill()


def test_a_killed_import_leaves_nothing(other: Machine) -> None:
    archive = other.archive(MANY)
    half_imported(other, archive)
    assert json.loads(other.done("teams", "list", "--format", "json")) == []
    other.done("store", "import", other.file(archive))


async def test_from_half_an_import_no_gateway_serves_and_it_can_be_begun_again(
    machine: Machine, redis: RedisServer, tmp_path: Path
) -> None:
    shared = Machine(tmp_path / "shared", redis.url)
    shared.take_pepper_of(machine)
    archive = shared.archive(MANY)
    async with RedisStore(parse_store_url(redis.url)) as serving:
        await asyncio.to_thread(half_imported, shared, archive)
        async with redis.client() as client:
            assert await client.hlen("{gateway}:teams") == 3
        with pytest.raises(StoreUnavailable):
            await serving.accounts.load(["team:red"])
        with pytest.raises(UnusableStore, match="an import was not finished"):
            async with RedisStore(parse_store_url(redis.url)):
                pass
        for command in (("teams", "list"), ("store", "confirm-reset"), ("store", "export")):
            refused = await asyncio.to_thread(shared.refused, *command)
            assert refused.endswith("an import was not finished; run 'gateway store import' again.")
        await asyncio.to_thread(shared.done, "store", "import", shared.file(archive))
        assert (await asyncio.to_thread(shared.content))[2]
        with pytest.raises(StoreUnavailable):
            await serving.accounts.load(["team:red"])


# -- confirm-reset ------------------------------------------------------------------------------


async def test_a_confirmed_reset_lets_gateways_go_on(redis: RedisServer, tmp_path: Path) -> None:
    shared = Machine(tmp_path / "shared", redis.url)
    shared.environ["GATEWAY_KEYS_PEPPER"] = "p" * 40
    async with RedisStore(parse_store_url(redis.url)) as serving:
        await serving.accounts.load(["a"])
        async with redis.client() as client:
            await client.flushall()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await serving.accounts.load(["a"])
        ended = await asyncio.to_thread(shared.click, "store", "confirm-reset")
        assert (ended.exit_code, ended.stdout) == (0, "")
        assert ended.stderr.splitlines()[-1] == (
            f"confirmed: gateways continue with the data in {redis.url}"
        )
        await serving.accounts.load(["a"])
    again = await asyncio.to_thread(shared.click, "store", "confirm-reset")
    assert again.exit_code == 0
    assert "There is nothing to confirm" in again.stderr


def test_a_file_needs_no_confirmation(machine: Machine) -> None:
    assert machine.refused("store", "confirm-reset").startswith(
        "A database file needs no confirmation"
    )
