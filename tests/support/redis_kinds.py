"""Redis in its other forms: a cluster of three nodes, TLS, a Unix socket, replicas, sentinels."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot

from tests.support.redis import SETTINGS, START_SECONDS, RedisServer, free_port, running_redis
from tests.support.steps import until
from tests.support.tls import Issued

SERVICE = "gateway"
PASSWORD = "of-sentinels"
SLOTS = 16_384


async def command(client: Redis, *words: str | bytes | int) -> Any:
    """The reply of a server to any command."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]


class Cluster:
    """Three masters with a third of the slots each."""

    def __init__(self, nodes: list[RedisServer]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    async def owner(self, key: str) -> RedisServer:
        """The node that held a key at first."""
        return self.nodes[key_slot(key.encode()) * len(self.nodes) // SLOTS]

    async def move(self, key: str, to: RedisServer) -> None:
        """Move the slot of a key, with all its keys, to another node."""
        slot, owner = key_slot(key.encode()), await self.owner(key)
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(node.client()) for node in self.nodes]
            source = clients[self.nodes.index(owner)]
            target = clients[self.nodes.index(to)]
            ids = [await command(client, "CLUSTER MYID") for client in (source, target)]
            await command(target, "CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
            await command(source, "CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
            keys = await command(source, "CLUSTER GETKEYSINSLOT", slot, 1000)
            await command(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
            for client in (target, source, *clients):
                await command(client, "CLUSTER SETSLOT", slot, "NODE", ids[1])


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
        """Its URL, with the authority to trust and the certificate to show."""
        trusted = f"ssl_ca_certs={self.folder / 'authority.pem'}"
        shown = f"ssl_certfile={self.folder / 'tls.crt'}&ssl_keyfile={self.folder / 'tls.key'}"
        return f"rediss://127.0.0.1:{self.port}/0?{trusted}&{shown}"


@asynccontextmanager
async def running_tls(folder: Path) -> AsyncIterator[TlsServer]:
    """A server behind TLS that wants a client certificate, killed when the block ends."""
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
        "tls-ca-cert-file": str(folder / "authority.pem"),
        "tls-auth-clients": "yes",
    }
    server = TlsServer(folder, port, settings)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


class UnixServer(RedisServer):
    """A server that listens on a Unix socket too."""

    @property
    def url(self) -> str:
        """Its URL, by the socket."""
        return f"redis+unix://{self.settings['unixsocket']}"

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        async with Redis(port=self.port) as client:
            yield client


@asynccontextmanager
async def running_unix(folder: Path) -> AsyncIterator[UnixServer]:
    """A server on a Unix socket, killed when the block ends."""
    # The path of a socket has at most 107 bytes.
    with TemporaryDirectory() as short:
        server = UnixServer(folder, free_port(), {**SETTINGS, "unixsocket": f"{short}/redis.sock"})
        await server.start()
        try:
            yield server
        finally:
            await server.kill()


class Sentinels:
    """A primary and the sentinels that watch it, perhaps with replicas."""

    def __init__(
        self, primary: RedisServer, replicas: list[RedisServer], sentinels: list["SentinelServer"]
    ) -> None:
        self.primary = primary
        self.replicas = replicas
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """Its URL, by the sentinels; before them stands one that does not exist."""
        nodes = [f"127.0.0.1:{port}" for port in (1, *(each.port for each in self.sentinels))]
        secret = f"?sentinel_password={PASSWORD}"
        return f"redis+sentinel://{','.join(nodes)}/{SERVICE}/0{secret}"


@asynccontextmanager
async def running_replicas(
    folder: Path, primary: RedisServer, count: int, **settings: str
) -> AsyncIterator[list[RedisServer]]:
    """Replicas that have caught up: this takes a second."""
    async with AsyncExitStack() as running:
        replicas = []
        for number in range(count):
            own = {"replicaof": f"127.0.0.1 {primary.port}", **settings}
            one = running_redis(folder / f"replica{number}", **own)
            replicas.append(await running.enter_async_context(one))
        for replica in replicas:
            await until(partial(_caught_up, replica), START_SECONDS)
        yield replicas


@asynccontextmanager
async def running_sentinel(
    folder: Path, *, replicas: int = 0, sentinels: int = 1, **settings: str
) -> AsyncIterator[Sentinels]:
    """A primary and its sentinels, killed when the block ends.

    `replicas` have caught up, and the sentinels know them: this takes seconds. The settings are
    those of primary and replicas. The sentinels have a password.
    """
    quick = {"repl_diskless_sync_delay": "0", **settings}
    async with AsyncExitStack() as running:
        primary = await running.enter_async_context(running_redis(folder / "primary", **quick))
        others = await running.enter_async_context(
            running_replicas(folder, primary, replicas, **quick)
        )
        started = []
        for number in range(sentinels):
            sentinel = SentinelServer(
                folder / f"sentinel{number}", free_port(), primary.port, sentinels // 2 + 1
            )
            await asyncio.to_thread(sentinel.configure)
            await sentinel.start()
            running.push_async_callback(sentinel.kill)
            started.append(sentinel)
        for sentinel in started:
            await until(partial(_knows, sentinel, replicas, sentinels), START_SECONDS)
        yield Sentinels(primary, others, started)


async def _caught_up(replica: RedisServer) -> bool:
    async with replica.client() as client:
        return bool((await client.info("replication"))["master_link_status"] == "up")


async def _knows(sentinel: "SentinelServer", replicas: int, sentinels: int) -> bool:
    async with sentinel.client() as client:
        state: Any = await client.sentinel_master(SERVICE)
        return [state["num-slaves"], state["num-other-sentinels"]] == [replicas, sentinels - 1]


class SentinelServer(RedisServer):
    """A sentinel with a password. It rewrites its configuration file as it learns."""

    def __init__(self, folder: Path, port: int, primary: int, quorum: int = 1) -> None:
        super().__init__(folder, port, {})
        self.file = folder / "sentinel.conf"
        self._primary = primary
        self._quorum = quorum

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}"

    def configure(self) -> None:
        """Write its first configuration."""
        self.folder.mkdir(parents=True)
        self.file.write_text(
            f"requirepass {PASSWORD}\n"
            f"sentinel sentinel-pass {PASSWORD}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary} {self._quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )

    async def watch(self, primary: RedisServer) -> None:
        """Name another primary."""
        async with self.client() as client:
            await client.sentinel_remove(SERVICE)
            await client.sentinel_monitor(SERVICE, "127.0.0.1", primary.port, 1)

    def arguments(self) -> list[str]:
        return [str(self.file), *super().arguments(), "--sentinel"]
