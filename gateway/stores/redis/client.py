"""Clients of Redis for each kind of URL, with bounded pools and bounded waits.

redis-py retries a command whose reply was lost. For the ledger, a script would run twice, so the
caller says how often to retry: 0 for the ledger. A command that a cluster's node redirects (MOVED,
ASK) was not run and is always sent on.

Maintenance notifications, which only hosted servers of one vendor send, are switched off: with
them redis-py may use a connection that the server has closed.
"""

from typing import Any

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from gateway.config.store_url import StoreUrl

RedisClient = Redis | RedisCluster

NODE_SECONDS = 1.0
"""How long a cluster's node or a sentinel may take to accept a connection, and to reply. After
that, redis-py tries another one."""

SERVER_SECONDS = 5.0
"""The same for any other server. Callers have shorter deadlines, which measure time better than
redis-py does (see `gateway.core.deadline`)."""


def open_client(place: StoreUrl, *, connections: int, retries: int) -> RedisClient:
    """Return a client of the Redis at `place`, which connects when it is first used.

    `connections` bounds its pool (of each node, in a cluster); the caller must use no more at the
    same time. Replies are bytes.
    """
    seconds = NODE_SECONDS if place.kind == "cluster" else SERVER_SECONDS
    tls = {"ssl": True, "ssl_ca_certs": place.ca_certs} if place.tls else {}
    options: dict[str, Any] = {
        "username": place.user,
        "password": place.password.reveal() if place.password else None,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "max_connections": connections,
        "retry": Retry(NoBackoff(), retries),
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **tls,
    }
    if place.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in place.nodes]
        return RedisCluster(startup_nodes=nodes, **options)
    if place.kind == "sentinel":
        bounds = {"socket_timeout": NODE_SECONDS, "socket_connect_timeout": NODE_SECONDS}
        sentinel = Sentinel(place.nodes, sentinel_kwargs={**bounds, **tls})  # type: ignore[no-untyped-call]  # redis has no types here
        # Each connection goes to the master that the sentinels name at that time.
        master: Redis = sentinel.master_for(place.service, db=place.db, **options)
        return master
    ((host, port),) = place.nodes
    return Redis(host=host, port=port, db=place.db, **options)


async def close_client(client: RedisClient) -> None:
    """Close all connections of a client, also to sentinels. Raises what redis-py raises."""
    await client.aclose()
    if isinstance(client, RedisCluster):
        # After a failure, aclose leaves the connections open: the client means to connect again.
        await client.nodes_manager.aclose()
        await client.nodes_manager.aclose("startup_nodes")
    elif isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()
