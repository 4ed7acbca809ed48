"""Clients of Redis for each kind of URL, with bounded pools and bounded waits.

redis-py retries a command whose reply was lost. For the ledger, a script would run twice, so the
caller says how often to retry: 0 for the ledger.

Maintenance notifications, which only hosted servers of one vendor send, are switched off: with
them redis-py may use a connection that the server has closed.
"""

from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.maint_notifications import MaintNotificationsConfig

from gateway.config.store_url import StoreUrl
from gateway.stores.redis.names import META
from gateway.stores.redis.primary import (
    ClusterFinder,
    PrimaryConnection,
    PrimaryFinder,
    PrimaryPool,
    PrimaryTlsConnection,
    SentinelFinder,
)

RedisClient = Redis | RedisCluster

NODE_SECONDS = 1.0
"""How long a cluster's node may take to accept a connection, and to reply. After that, redis-py
tries another one."""

SERVER_SECONDS = 5.0
"""The same for any other server. Callers have shorter deadlines, which measure time better than
redis-py does (see `gateway.core.deadline`)."""


def open_client(place: StoreUrl, *, connections: int, retries: int) -> RedisClient:
    """Return a client for keys of any name at `place`, which connects when it is first used.

    `connections` bounds its pool (of each node, in a cluster); the caller must use no more at the
    same time. Replies are bytes. A command that a cluster's node redirects (MOVED, ASK) is always
    sent on.
    """
    if place.kind != "cluster":
        return open_primary(place, connections=connections, retries=retries)
    options = _options(place, NODE_SECONDS, retries)
    nodes = [ClusterNode(host, port) for host, port in place.nodes]
    return RedisCluster(startup_nodes=nodes, max_connections=connections, **options)


def open_primary(place: StoreUrl, *, connections: int, retries: int) -> Redis:
    """Return a client of the server that holds the store's keys, as `open_client` does.

    The keys have one hash tag, so in a cluster this is one node too. With sentinels and in a
    cluster, each new connection goes to the primary as of then: a caller that is redirected
    (MOVED) or refused (READONLY) closes the idle ones.
    """
    where: dict[str, Any] = {}
    kind: type[Connection] | type[UnixDomainSocketConnection]
    if place.path:
        kind, where["path"] = UnixDomainSocketConnection, place.path
    elif finder := _finder(place):
        kind = PrimaryTlsConnection if place.tls else PrimaryConnection
        where["finder"] = finder
    else:
        kind = SSLConnection if place.tls else Connection
        ((where["host"], where["port"]),) = place.nodes
    options = _options(place, SERVER_SECONDS, retries)
    options.pop("ssl", None)
    pool = PrimaryPool(kind, max_connections=connections, db=place.db, **where, **options)
    return Redis.from_pool(pool)


def _finder(place: StoreUrl) -> PrimaryFinder | None:
    options = _options(place, SERVER_SECONDS, retries=0)
    if place.kind == "cluster":
        return ClusterFinder(place.nodes, key_slot(META.encode()), options)
    if place.kind == "sentinel":
        password = place.sentinel_password
        options["username"] = place.sentinel_user
        options["password"] = password.reveal() if password else None
        return SentinelFinder(place.nodes, place.service, options)
    return None


def _options(place: StoreUrl, seconds: float, retries: int) -> dict[str, Any]:
    return {
        "username": place.user,
        "password": place.password.reveal() if place.password else None,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "retry": Retry(NoBackoff(), retries),
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **({"ssl": True, **place.tls_files} if place.tls else {}),
    }


async def close_idle(client: RedisClient) -> None:
    """Close the idle connections, so that the next call looks for the primary again."""
    if isinstance(client, Redis) and isinstance(client.connection_pool, PrimaryPool):
        await client.connection_pool.close_idle()


async def follow_primary(client: Redis) -> None:
    """Close the idle connections to a former primary. Raises what redis-py raises."""
    if isinstance(client.connection_pool, PrimaryPool):
        await client.connection_pool.follow()


async def close_client(client: RedisClient) -> None:
    """Close all connections of a client, also to sentinels. Raises what redis-py raises."""
    await client.aclose()
    if isinstance(client, RedisCluster):
        # After a failure, aclose leaves the connections open: the client means to connect again.
        await client.nodes_manager.aclose()
        await client.nodes_manager.aclose("startup_nodes")
    elif finder := client.connection_pool.connection_kwargs.get("finder"):
        await finder.close()
