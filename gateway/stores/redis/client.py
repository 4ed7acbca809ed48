"""Clients of Redis for each kind of URL, with bounded pools and bounded waits.

redis-py sends a command again by itself where its reply was lost. For the ledger that would be a
script that runs twice, so whoever opens a client says how often: 0 for the ledger. A command that
a cluster's node refers to another one (MOVED, ASK) was not run and is always sent on.

Maintenance notifications, which only hosted servers of one vendor send, are switched off: while
they may come, redis-py takes a connection that its server has closed for one to be used.
"""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    RedisCluster,
    Sentinel,
    SSLConnection,
)
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from gateway.config.store_url import StoreUrl

RedisClient = Redis | RedisCluster

NODE_SECONDS = 1.0
"""How long a cluster's node or a sentinel may take to be connected with, and to reply: it is by
this that redis-py looks for another one."""

SERVER_SECONDS = 5.0
"""The same for any other server. Who asks it waits less, but by a better clock than redis-py's
(see `gateway.core.deadline`)."""


def open_client(place: StoreUrl, *, connections: int, retries: int) -> RedisClient:
    """A client of the Redis at `place`; it connects when it is first used.

    `connections` bounds its pool (of each node, in a cluster): who finds it empty waits as long
    as for a reply. Answers are bytes.
    """
    seconds = NODE_SECONDS if place.kind == "cluster" else SERVER_SECONDS
    options: dict[str, Any] = {
        "username": place.user,
        "password": place.password.reveal() if place.password else None,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "retry": Retry(NoBackoff(), retries),
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    match place.kind:
        case "cluster":
            nodes = [ClusterNode(host, port) for host, port in place.nodes]
            return RedisCluster(
                startup_nodes=nodes, max_connections=connections, **options, **_tls(place)
            )
        case "sentinel":
            return _behind_sentinels(place, connections, options)
    ((host, port),) = place.nodes
    pool = BlockingConnectionPool(
        max_connections=connections,
        timeout=seconds,
        connection_class=SSLConnection if place.tls else Connection,
        host=host,
        port=port,
        db=place.db,
        **options,
        **_ca_certs(place),
    )
    return Redis.from_pool(pool)


async def close_client(client: RedisClient) -> None:
    """Close all of a client's connections, those to sentinels too. Raises what redis-py raises."""
    await client.aclose()
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _behind_sentinels(place: StoreUrl, connections: int, options: Mapping[str, Any]) -> RedisClient:
    """A client of the master that the sentinels name at the time of each connection."""
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        place.nodes,
        sentinel_kwargs={
            "socket_timeout": NODE_SECONDS,
            "socket_connect_timeout": NODE_SECONDS,
            **_tls(place),
        },
    )
    client: Redis = sentinel.master_for(
        place.service, db=place.db, max_connections=connections, **options, **_tls(place)
    )
    return client


def _tls(place: StoreUrl) -> dict[str, Any]:
    return {"ssl": True, **_ca_certs(place)} if place.tls else {}


def _ca_certs(place: StoreUrl) -> dict[str, Any]:
    return {"ssl_ca_certs": place.ca_certs} if place.ca_certs else {}
