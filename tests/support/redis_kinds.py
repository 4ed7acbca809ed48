"""Redis in its other forms: a cluster of three nodes, behind TLS, behind a sentinel."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tests.support.redis import START_SECONDS, RedisServer, free_port, running_redis
from tests.support.steps import until
from tests.support.tls import Issued

SERVICE = "gateway"
SLOTS = 16_384


async def command(client: Redis, *words: str | int) -> Any:
    """The reply of a server to any command."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]


class Cluster:
    """Three masters with a third of the slots each."""

    def __init__(self, nodes: list[RedisServer]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """Its URL, by its first node."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    async def owner(self, key: str) -> RedisServer:
        """The node that holds a key."""
        async with self.nodes[0].client() as client:
            slot = int(await command(client, "CLUSTER KEYSLOT", key))
        return self.nodes[slot * len(self.nodes) // SLOTS]


@asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster that answers, killed when the block ends."""
    async with AsyncExitStack() as running:
        nodes = [
            await running.enter_async_context(
                running_redis(
                    folder / str(number), cluster_enabled="yes", cluster_node_timeout="2000"
                )
            )
            for number in range(3)
        ]
        await _join(nodes)
        yield Cluster(nodes)


async def _join(nodes: list[RedisServer]) -> None:
    firsts = [-(-SLOTS * number // len(nodes)) for number in range(len(nodes) + 1)]
    for node, first, after in zip(nodes, firsts, firsts[1:], strict=False):
        async with node.client() as client:
            await command(client, "CLUSTER ADDSLOTSRANGE", first, after - 1)
            await command(client, "CLUSTER MEET", "127.0.0.1", nodes[0].port)
    for node in nodes:
        await until(partial(_joined, node), START_SECONDS)


async def _joined(node: RedisServer) -> bool:
    async with node.client() as client:
        about = await command(client, "CLUSTER INFO")
        return bool(about["cluster_state"] == "ok" and about["cluster_known_nodes"] == "3")


class TlsServer(RedisServer):
    """A server that accepts only TLS, with a certificate of this test."""

    @property
    def url(self) -> str:
        """Its URL, with the authority to trust."""
        return f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={self.folder / 'authority.pem'}"


@asynccontextmanager
async def running_tls(folder: Path) -> AsyncIterator[TlsServer]:
    """A server behind TLS, killed when the block ends."""
    port, issued = free_port(), Issued()
    certificate, key = issued.write(folder)
    (folder / "authority.pem").write_bytes(issued.authority)
    settings = {
        "save": "",
        "appendonly": "no",
        "port": "0",
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-auth-clients": "no",
    }
    server = TlsServer(folder, port, settings)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


class Sentinels:
    """A master and one sentinel that watches it, perhaps with a replica."""

    def __init__(self, master: RedisServer, sentinel: RedisServer) -> None:
        self.master = master
        self.sentinel = sentinel

    @property
    def url(self) -> str:
        """Its URL, by the sentinel."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}/0"


@asynccontextmanager
async def running_sentinel(folder: Path, *, replica: bool = False) -> AsyncIterator[Sentinels]:
    """A master and its sentinel, killed when the block ends.

    `replica` adds a replica that has caught up and that the sentinel knows: this takes seconds.
    """
    async with AsyncExitStack() as running:
        master = await running.enter_async_context(running_redis(folder / "master"))
        sentinel = SentinelServer(folder / "sentinel", free_port(), master.port)
        if replica:
            other = running_redis(folder / "replica", replicaof=f"127.0.0.1 {master.port}")
            replica_server = await running.enter_async_context(other)
            await until(partial(_caught_up, replica_server), START_SECONDS)
        await asyncio.to_thread(sentinel.configure)
        await sentinel.start()
        running.push_async_callback(sentinel.kill)
        if replica:
            await until(partial(_knows_replica, sentinel), START_SECONDS)
        yield Sentinels(master, sentinel)


async def _caught_up(replica: RedisServer) -> bool:
    async with replica.client() as client:
        return bool((await client.info("replication"))["master_link_status"] == "up")


async def _knows_replica(sentinel: RedisServer) -> bool:
    async with sentinel.client() as client:
        return bool(await command(client, "SENTINEL REPLICAS", SERVICE))


class SentinelServer(RedisServer):
    """A sentinel. It rewrites its configuration file as it learns."""

    def __init__(self, folder: Path, port: int, master: int) -> None:
        super().__init__(folder, port, {})
        self.file = folder / "sentinel.conf"
        self._master = master

    def configure(self) -> None:
        """Write its first configuration."""
        self.folder.mkdir(parents=True)
        self.file.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._master} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )

    def arguments(self) -> list[str]:
        return [str(self.file), *super().arguments(), "--sentinel"]
