from redis.asyncio import Redis

from gateway.quota.store import Change
from gateway.stores.port import Store
from gateway.stores.redis.scripts import TEXTS, script
from tests.conformance.store import entry, images, put, spent


async def test_every_script_is_understood_by_the_server(client: Redis) -> None:
    for name in TEXTS.keys() - {"begin"}:
        await client.script_load(script(name).text)


async def test_a_server_that_forgot_the_scripts_is_sent_them_again(
    store: Store, client: Redis
) -> None:
    await put(store, "a", spent(1))
    await client.script_flush()
    assert await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
    assert await images(store, "a") == 2
    assert (await store.usage.report([], None, None))[0].requests == 1


def test_no_script_looks_for_keys_or_adds_up_in_floating_point() -> None:
    for text in TEXTS.values():
        for word in ("'KEYS'", "'SCAN'", "INCRBYFLOAT", "cjson"):
            assert word not in text
