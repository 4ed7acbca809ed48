from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import flit_core.buildapi  # type: ignore[import-untyped]
import pytest

from gateway.config.store_url import parse_store_url
from gateway.quota.store import Change
from gateway.stores.redis import RedisStore, scripts
from tests.conformance.store import entry, images, put, spent
from tests.support.redis import running_redis

FOLDER = Path(scripts.__file__).with_name("scripts")


def named() -> Iterator[scripts.Script]:
    return (thing for thing in vars(scripts).values() if isinstance(thing, scripts.Script))


def test_a_built_package_has_every_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER.parents[3])
    wheel = flit_core.buildapi.build_wheel(str(tmp_path))
    with ZipFile(tmp_path / wheel) as package:
        inside = {Path(name).name for name in package.namelist() if name.endswith(".lua")}
    assert inside == {file.name for file in FOLDER.glob("*.lua")}
    assert len(inside) > 10


async def test_every_script_is_understood_by_the_server(tmp_path: Path) -> None:
    async with running_redis(tmp_path / "redis") as server, server.client() as client:
        for script in named():
            await client.script_load(script.text)


async def test_a_server_that_forgot_the_scripts_is_sent_them_again(tmp_path: Path) -> None:
    async with (
        running_redis(tmp_path / "redis") as server,
        RedisStore(parse_store_url(server.url)) as store,
        server.client() as client,
    ):
        await put(store, "a", spent(1))
        await client.script_flush()
        assert await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
        assert await images(store, "a") == 2
        assert (await store.usage.report([], None, None))[0].requests == 1


def test_no_script_looks_for_keys_or_adds_up_in_floating_point() -> None:
    for script in named():
        for word in ("'KEYS'", "'SCAN'", "INCRBYFLOAT", "cjson"):
            assert word not in script.text
