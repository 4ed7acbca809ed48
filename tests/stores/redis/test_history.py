"""How long Redis keeps errors and the numbers of batches."""

import time

import msgspec
from redis.asyncio import Redis

from gateway.core.periods import DAY_SECONDS
from gateway.reporting.request_lines import LineFilter, RequestLine, TeamErrors
from gateway.stores.port import Store
from gateway.stores.redis import names
from tests.conformance.test_history import KIND, WRITER, add, line


async def test_errors_and_writers_expire(store: Store, client: Redis) -> None:
    now = time.time()
    for number, at in enumerate((now, now - 30 * DAY_SECONDS), 1):
        await add(store, number, at=at, errors=[TeamErrors("red", KIND)])
        left = await client.ttl(names.errors(int(at // DAY_SECONDS)))
        assert 90 * DAY_SECONDS - 60 <= left <= 91 * DAY_SECONDS + 60
    assert DAY_SECONDS - 60 <= await client.ttl(names.written(WRITER)) <= DAY_SECONDS


async def test_gateways_of_other_versions_share_the_lines(store: Store, client: Redis) -> None:
    """The fields after the route are new: other gateways may lack them, or have more."""
    new = line(2)
    await add(store, 1, new)
    ring = names.activity(new.ring)
    fields = msgspec.json.decode(msgspec.json.encode(new))
    older, newer = (
        [*fields[:1], "older", *fields[2:19]],
        [*fields[:1], "newer", *fields[2:], "more"],
    )
    newer[fields.index(new.reason) + 1]["more"] = 1
    for other in (older, newer):
        await client.zadd(ring, {new.place.encode() + msgspec.json.encode(other): 0})
    found = {each.id: each for each in await store.history.lines(LineFilter(), 10)}
    assert found == {
        "r2": new,
        "older": msgspec.structs.replace(
            new, id="older", upstream_status=None, reason=None, refused_by=None
        ),
        "newer": msgspec.structs.replace(new, id="newer"),
    }
    assert RequestLine.__struct_fields__[:19][-1] == "route"
