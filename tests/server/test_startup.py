"""Loading the pepper and opening the store: everything that a start refuses in one line."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.config.load import read_settings
from gateway.config.settings import KeySettings, Settings, StoreSettings
from gateway.config.store_url import StoreUrl, parse_store_url
from gateway.core.model import Deliver, Team
from gateway.server import startup
from gateway.server.gateway import Gateway
from gateway.server.startup import StartError, load_pepper, open_store
from gateway.stores.redis import RedisStore
from tests.support.redis import running_redis

PEPPER = b"0123456789abcdef"
PLACE = StoreUrl(kind="sqlite", path="/nowhere/gateway.db")


def keys(folder: Path) -> KeySettings:
    return KeySettings(pepper_file=str(folder / "pepper"))


@pytest.fixture
def stored(tmp_path: Path) -> Settings:
    """Settings with a database in `tmp_path`."""
    return Settings(store=StoreSettings(url=f"sqlite:{tmp_path}/my.db"))


# -- the pepper ---------------------------------------------------------------------------------


def test_a_pepper_is_created_once_for_its_owner_alone(tmp_path: Path) -> None:
    pepper = load_pepper(keys(tmp_path / "data"), PLACE)
    assert len(pepper) == 64
    assert load_pepper(keys(tmp_path / "data"), PLACE) == pepper
    (file,) = (tmp_path / "data").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert load_pepper(keys(tmp_path / "other"), PLACE) != pepper


def test_processes_that_start_at_the_same_time_have_the_same_pepper(tmp_path: Path) -> None:
    """In processes, because the draft's name must differ between processes."""
    readers = []
    for _ in range(8):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, load_pepper(keys(tmp_path), PLACE))
            os._exit(0)
        os.close(write)
        readers.append((child, read))
    peppers = set()
    for child, read in readers:
        peppers.add(os.read(read, 100))
        os.close(read)
        os.waitpid(child, 0)
    assert peppers == {load_pepper(keys(tmp_path), PLACE)}
    assert [file.name for file in tmp_path.iterdir()] == ["pepper"]


@pytest.mark.parametrize("line_break", [b"", b"\n", b"\r\n"])
def test_a_line_break_is_no_part_of_a_pepper(tmp_path: Path, line_break: bytes) -> None:
    (tmp_path / "pepper").write_bytes(PEPPER + line_break)
    assert load_pepper(keys(tmp_path), PLACE) == PEPPER


def test_quotes_are_part_of_a_pepper_in_a_file(tmp_path: Path) -> None:
    """A pepper that was in use with quotes must stay usable, although a variable refuses them."""
    (tmp_path / "pepper").write_bytes(b'"' + PEPPER + b'"\n')
    assert load_pepper(keys(tmp_path), PLACE) == b'"' + PEPPER + b'"'


def test_the_environments_pepper_outranks_the_file(tmp_path: Path) -> None:
    environ = {"GATEWAY_KEYS_PEPPER": "1234567890abcdef\n"}
    settings, _ = read_settings(f'[keys]\npepper_file = "{tmp_path}/pepper"', environ)
    assert load_pepper(settings.keys, PLACE) == b"1234567890abcdef"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("short", "fewer than 16 bytes"),
        ("short/pepper", r"pepper file .* cannot be used: "),
        ("", r"pepper file .* cannot be used: "),
        ("/proc/nowhere/pepper", r"pepper file .* cannot be used: "),
    ],
)
def test_an_unusable_pepper_file_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "short").write_bytes(PEPPER[:-1])
    with pytest.raises(StartError, match=reason):
        load_pepper(KeySettings(pepper_file=str(tmp_path / place)), PLACE)


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ("sqlite:{}/my.db", r"pepper is missing, and the database .* needs it"),
        ("redis://localhost", r"need the same pepper: .*GATEWAY_KEYS_PEPPER"),
    ],
)
def test_no_pepper_is_created_for_a_store_that_may_have_one(
    tmp_path: Path, store: str, reason: str
) -> None:
    (tmp_path / "my.db").touch()
    place = parse_store_url(store.format(tmp_path))
    with pytest.raises(StartError, match=reason):
        load_pepper(keys(tmp_path), place)
    assert [file.name for file in tmp_path.iterdir()] == ["my.db"]
    (tmp_path / "pepper").write_bytes(PEPPER)
    assert load_pepper(keys(tmp_path), place) == PEPPER


# -- the store ----------------------------------------------------------------------------------


async def test_a_store_opens_only_with_its_own_pepper(stored: Settings) -> None:
    for _ in range(2):
        await (await open_store(stored, PEPPER)).close()
    with pytest.raises(StartError, match=r"pepper does not belong .*Restore both") as refusal:
        await open_store(stored, PEPPER + b"!")
    assert PEPPER.decode() not in str(refusal.value)
    await (await open_store(stored, PEPPER)).close()


async def test_an_unusable_database_is_refused(tmp_path: Path, stored: Settings) -> None:
    (tmp_path / "my.db").write_text("somebody's notes" * 100)
    with pytest.raises(StartError, match=r"my\.db cannot be used: it is not a SQLite database"):
        await open_store(stored, PEPPER)


async def test_a_locked_database_is_reported_within_seconds(
    tmp_path: Path, stored: Settings
) -> None:
    await (await open_store(stored, PEPPER)).close()
    with closing(sqlite3.connect(tmp_path / "my.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StartError, match="locked"):
            await asyncio.wait_for(open_store(stored, PEPPER), 10)


async def test_a_url_of_redis_opens_a_store_there(tmp_path: Path) -> None:
    async with running_redis(tmp_path / "redis") as server:
        shared = Settings(store=StoreSettings(url=server.url))
        store = await open_store(shared, PEPPER)
        await store.close()
        assert isinstance(store, RedisStore)
        with pytest.raises(StartError, match=r"pepper does not belong .*redis://127"):
            await open_store(shared, PEPPER + b"!")
        await server.kill()
        with pytest.raises(
            StartError, match=r"redis://127\.0\.0\.1:\d+/0 cannot be reached: Error 111"
        ):
            await open_store(shared, PEPPER)


# -- the rest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ("", "set GATEWAY_UPSTREAM_BASE_URL"),
        (
            '[upstream]\nbase_url = "http://h"\napi_key_file = "no.key"',
            "The upstream key cannot be used: the file no.key cannot be read",
        ),
        (
            '[upstream]\nbase_url = "http://h"\napi_key_file = "{key}"\n'
            '[server]\ntls_cert = "no.crt"\ntls_key = "no.key"',
            "The certificate cannot be used: the file no.crt cannot be read",
        ),
        (
            '[upstream]\nbase_url = "http://h"\napi_key_file = "{key}"\n'
            '[cache]\nurl = "rediss://h?ssl_ca_certs=no.pem"',
            "The cache rediss://h:6379/0 cannot be used: the file no.pem cannot be read",
        ),
        (
            '[upstream]\nbase_url = "http://h"\napi_key_file = "{key}"\n'
            '[keys]\npepper_file = "{key}"\n'
            '[store]\nurl = "rediss://h?ssl_ca_certs=no.pem"',
            "The store rediss://h:6379/0 cannot be used: the file no.pem cannot be read",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, toml: str, reason: str) -> None:
    (tmp_path / "key").write_text("sk-upstream-0123456789")
    settings, _ = read_settings(toml.format(key=tmp_path / "key"), {})
    with pytest.raises(StartError, match=reason):
        Gateway(settings)


@pytest.mark.parametrize("deliver", ["url", "both"])
def test_a_team_that_wants_links_where_there_are_none_is_reported(deliver: Deliver) -> None:
    with_links = Settings()
    without = replace(with_links, images=replace(with_links.images, enabled=False))
    team = Team(name="red", deliver=deliver)
    assert list(startup.doubts(with_links, [team])) == []
    (doubt,) = startup.doubts(without, [Team(name="blue"), team])
    assert "deliver needs links" in doubt
    assert list(startup.doubts(without, [Team(name="red", deliver="b64_json")])) == []
