"""Loading the pepper and opening the store: everything that a start refuses in one line."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.config.load import read_settings
from gateway.config.settings import KeySettings, Settings, StoreSettings
from gateway.config.store_url import StoreUrl, parse_store_url
from gateway.core.secret import Secret
from gateway.server.startup import StartError, load_pepper, open_store
from gateway.stores.redis import RedisStore
from tests.support.redis import running_redis

PEPPER = b"0123456789abcdef"
PLACE = StoreUrl(kind="sqlite", path="/nowhere/gateway.db")


def settings(file: Path) -> Settings:
    return Settings(store=StoreSettings(url=f"sqlite:{file}"))


# -- the pepper ---------------------------------------------------------------------------------


def test_a_pepper_is_created_once_for_its_owner_alone(tmp_path: Path) -> None:
    keys = KeySettings(pepper_file=str(tmp_path / "data" / "pepper"))
    pepper = load_pepper(keys, PLACE)
    assert len(pepper) == 64
    assert load_pepper(keys, PLACE) == pepper
    (file,) = (tmp_path / "data").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert load_pepper(KeySettings(pepper_file=str(tmp_path / "other")), PLACE) != pepper


def test_processes_that_start_at_the_same_time_have_the_same_pepper(tmp_path: Path) -> None:
    """In processes, because the draft's name must differ between processes."""
    keys = KeySettings(pepper_file=str(tmp_path / "pepper"))
    readers = []
    for _ in range(8):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, load_pepper(keys, PLACE))
            os._exit(0)
        os.close(write)
        readers.append((child, read))
    peppers = set()
    for child, read in readers:
        peppers.add(os.read(read, 100))
        os.close(read)
        os.waitpid(child, 0)
    assert peppers == {load_pepper(keys, PLACE)}
    assert [file.name for file in tmp_path.iterdir()] == ["pepper"]


def test_the_environments_pepper_outranks_the_file(tmp_path: Path) -> None:
    keys = KeySettings(
        pepper=Secret("a pepper of the environment"), pepper_file=str(tmp_path / "pepper")
    )
    assert load_pepper(keys, PLACE) == b"a pepper of the environment"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line_break", [b"", b"\n", b"\r\n"])
def test_a_line_break_is_no_part_of_a_pepper(tmp_path: Path, line_break: bytes) -> None:
    (tmp_path / "pepper").write_bytes(PEPPER + line_break)
    of_variable, _ = read_settings("", {"GATEWAY_KEYS_PEPPER": (PEPPER + line_break).decode()})
    assert load_pepper(KeySettings(pepper_file=str(tmp_path / "pepper")), PLACE) == PEPPER
    assert load_pepper(of_variable.keys, PLACE) == PEPPER


def test_a_short_pepper_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_bytes(PEPPER[:-1])
    with pytest.raises(StartError, match="fewer than 16 bytes"):
        load_pepper(KeySettings(pepper_file=str(tmp_path / "pepper")), PLACE)


@pytest.mark.parametrize("place", ["file/pepper", "", "/proc/nowhere/pepper"])
def test_an_unusable_pepper_file_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StartError, match=r"pepper file .* cannot be used: "):
        load_pepper(KeySettings(pepper_file=str(tmp_path / place)), PLACE)


def test_a_missing_pepper_of_an_existing_database_is_not_created(tmp_path: Path) -> None:
    (tmp_path / "my.db").touch()
    place = StoreUrl(kind="sqlite", path=str(tmp_path / "my.db"))
    with pytest.raises(StartError, match=r"pepper is missing, and the database .* needs it"):
        load_pepper(KeySettings(pepper_file=str(tmp_path / "pepper")), place)
    assert [file.name for file in tmp_path.iterdir()] == ["my.db"]


def test_gateways_that_share_a_redis_need_a_pepper(tmp_path: Path) -> None:
    place = parse_store_url("redis://localhost")
    keys = KeySettings(pepper_file=str(tmp_path / "pepper"))
    with pytest.raises(StartError, match=r"need the same pepper: .*GATEWAY_KEYS_PEPPER"):
        load_pepper(keys, place)
    assert not list(tmp_path.iterdir())
    (tmp_path / "pepper").write_bytes(PEPPER)
    assert load_pepper(keys, place) == PEPPER


# -- the store ----------------------------------------------------------------------------------


async def test_a_store_opens_only_with_its_own_pepper(tmp_path: Path) -> None:
    for _ in range(2):
        await (await open_store(settings(tmp_path / "my.db"), PEPPER)).close()
    with pytest.raises(StartError, match=r"pepper does not belong .*Restore both") as refusal:
        await open_store(settings(tmp_path / "my.db"), PEPPER + b"!")
    assert PEPPER.decode() not in str(refusal.value)
    await (await open_store(settings(tmp_path / "my.db"), PEPPER)).close()


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    await (await open_store(settings(tmp_path / "my.db"), PEPPER)).close()
    with closing(sqlite3.connect(tmp_path / "my.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StartError, match="newer gateway"):
        await open_store(settings(tmp_path / "my.db"), PEPPER)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: file.write_text("somebody's notes" * 100), "not a SQLite database"),
        (lambda file: file.mkdir(), r"my\.db cannot be used"),
    ],
)
async def test_an_unusable_database_is_refused_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    file = tmp_path / "my.db"
    spoil(file)
    content = file.read_bytes() if file.is_file() else b""
    with pytest.raises(StartError, match=reason):
        await open_store(settings(file), PEPPER)
    assert (file.read_bytes() if file.is_file() else b"") == content


async def test_a_place_where_nothing_can_be_written_is_refused() -> None:
    with pytest.raises(StartError, match=r"database /proc/my\.db cannot be used: "):
        await open_store(settings(Path("/proc/my.db")), PEPPER)


async def test_a_locked_database_is_reported_within_seconds(tmp_path: Path) -> None:
    await (await open_store(settings(tmp_path / "my.db"), PEPPER)).close()
    with closing(sqlite3.connect(tmp_path / "my.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StartError, match="locked"):
            await asyncio.wait_for(open_store(settings(tmp_path / "my.db"), PEPPER), 10)


async def test_a_url_of_redis_opens_a_store_there(tmp_path: Path) -> None:
    seen: list[str] = []
    async with running_redis(tmp_path / "redis") as server:
        shared = Settings(store=StoreSettings(url=server.url))
        store = await open_store(shared, PEPPER, lambda name, seconds, there: seen.append(name))
        await store.close()
        assert isinstance(store, RedisStore)
        assert "check_value" in seen
        with pytest.raises(StartError, match=r"pepper does not belong .*redis://127"):
            await open_store(shared, PEPPER + b"!")
        await server.kill()
        with pytest.raises(
            StartError, match=r"redis://127\.0\.0\.1:\d+/0 cannot be reached: Error 111"
        ):
            await open_store(shared, PEPPER)
