"""How long Redis keeps errors and the numbers of batches."""

import time

from redis.asyncio import Redis

from gateway.core.periods import DAY_SECONDS
from gateway.reporting.request_lines import TeamErrors
from gateway.stores.port import Store
from gateway.stores.redis import names
from tests.conformance.test_history import KIND, WRITER, add


async def test_errors_and_writers_expire(store: Store, client: Redis) -> None:
    now = time.time()
    for number, at in enumerate((now, now - 30 * DAY_SECONDS), 1):
        await add(store, number, at=at, errors=[TeamErrors("red", KIND)])
        left = await client.ttl(names.errors(int(at // DAY_SECONDS)))
        assert 90 * DAY_SECONDS - 60 <= left <= 91 * DAY_SECONDS + 60
    assert DAY_SECONDS - 60 <= await client.ttl(names.written(WRITER)) <= DAY_SECONDS
