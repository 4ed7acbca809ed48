from collections.abc import Iterator
from pathlib import Path

from redis.asyncio import Redis

from gateway.quota.store import Change
from gateway.stores.port import Store
from gateway.stores.redis import scripts
from tests.conformance.store import entry, images, put, spent

FOLDER = Path(scripts.__file__).with_name("scripts")


def named() -> Iterator[scripts.Script]:
    return (thing for thing in vars(scripts).values() if isinstance(thing, scripts.Script))


async def test_every_script_is_understood_by_the_server(client: Redis) -> None:
    for script in named():
        await client.script_load(script.text)


async def test_a_server_that_forgot_the_scripts_is_sent_them_again(
    store: Store, client: Redis
) -> None:
    await put(store, "a", spent(1))
    await client.script_flush()
    assert await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
    assert await images(store, "a") == 2
    assert (await store.usage.report([], None, None))[0].requests == 1


def test_no_script_looks_for_keys_or_adds_up_in_floating_point() -> None:
    for script in named():
        for word in ("'KEYS'", "'SCAN'", "INCRBYFLOAT", "cjson"):
            assert word not in script.text
