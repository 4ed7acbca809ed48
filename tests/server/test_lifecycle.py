"""Starting and stopping a real process: no purchase in flight is lost, and none begins."""

import asyncio
import os
import pty
import re
import signal
import time
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from gateway.quota.account import Account, team_account
from gateway.server.gateway import LINGER_SECONDS
from gateway.server.run import ECHO_SECONDS
from gateway.stores.sqlite import SqliteStore
from gateway.upstream.sandbox import Sandbox
from tests.support.process import GatewayProcess, program, running_process
from tests.support.raw import refuses
from tests.support.rig import FLAT, PRICE, UPSTREAM_KEY, assert_spent
from tests.support.steps import drawing, key_in, status, until

DRAINING = (503, "server_error", "draining")


def sandbox(**settings: float) -> Sandbox:
    return Sandbox(drawing(**settings))


async def account_in(folder: Path) -> Account:
    async with SqliteStore(folder / "gateway.db") as store:
        return (await store.accounts.load([team_account("team")])).accounts[0][0]


async def has_status(gateway: GatewayProcess, wanted: int) -> bool:
    """Whether /readyz has the wanted status."""
    return (await gateway.admin("/readyz")).status == wanted


async def test_a_drain_delivers_purchases_in_flight_and_buys_nothing_new(tmp_path: Path) -> None:
    async with (
        sandbox(latency=2) as upstream,
        running_process(tmp_path, upstream.url, FLAT) as gateway,
    ):
        key = await key_in(tmp_path)
        upstream.settings.latency = 0
        await gateway.generate(key, "kept")
        upstream.settings.latency = 2
        waiting = [asyncio.create_task(gateway.generate(key, f"p{i}")) for i in range(5)]
        left = asyncio.create_task(gateway.generate(key, "client disconnects"))
        await until(lambda: upstream.counts.in_flight == 6)
        left.cancel()

        gateway.send(signal.SIGTERM)
        started = time.monotonic()
        await until(lambda: has_status(gateway, 503))
        assert (await gateway.admin("/readyz")).json["reason"] == "draining"
        assert (await gateway.admin("/healthz")).status == 200
        new = await gateway.generate(key, "new")
        assert new.error == DRAINING
        assert "x-should-retry" not in new.headers
        assert status(await gateway.generate(key, "kept")) == "gateway; hit"
        joined = asyncio.create_task(gateway.generate(key, "p0"))

        assert [(await each).status for each in waiting] == [200] * 5
        assert status(await joined) == "gateway; fwd=miss; collapsed"
        assert await gateway.ended() == 0
        assert time.monotonic() - started < 20
        with pytest.raises(aiohttp.ClientError):
            await gateway.admin("/healthz")
        assert upstream.counts.calls == 7
        assert_spent(await account_in(tmp_path), 7, 7 * PRICE)
        assert gateway.lines()[-1]["event"] == "stopped"


async def test_a_long_drain_refuses_new_connections_in_the_end(tmp_path: Path) -> None:
    async with (
        sandbox(latency=LINGER_SECONDS + 4) as upstream,
        running_process(tmp_path, upstream.url, FLAT) as gateway,
        aiohttp.ClientSession() as session,
    ):
        key = await key_in(tmp_path)
        waiting = asyncio.create_task(gateway.generate(key, "slow"))
        await until(lambda: upstream.counts.in_flight == 1)
        async with session.get(gateway.url + "/v1/models") as answer:
            assert answer.status == 401  # and the connection stays, idle
        gateway.send(signal.SIGTERM)
        await until(lambda: refuses(gateway.url), 30)
        assert not waiting.done()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(gateway.url + "/v1/models")
        assert (await gateway.admin("/readyz")).json["reason"] == "draining"
        assert (await waiting).status == 200
        assert await gateway.ended() == 0


async def test_sighup_during_the_start_does_not_end_it(tmp_path: Path) -> None:
    async with program(tmp_path) as gateway:
        await gateway.start("serve", "--sandbox")
        await until(lambda: _ignores_hang_ups(gateway.pid), 60)
        gateway.send(signal.SIGHUP)
        await gateway.listening()
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0


def _ignores_hang_ups(pid: int) -> bool:
    (ignored,) = re.findall(r"SigIgn:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(ignored, 16) & 1 << signal.SIGHUP - 1)


async def test_a_purchase_that_outlasts_the_drain_is_charged_as_unknown(tmp_path: Path) -> None:
    async with (
        sandbox(latency=30) as upstream,
        running_process(tmp_path, upstream.url, FLAT, SERVER_DRAIN_SECONDS="1") as gateway,
    ):
        key = await key_in(tmp_path)
        waiting = asyncio.create_task(gateway.generate(key, "slow", n=2))
        await until(lambda: upstream.counts.in_flight == 1)
        asked = time.time()
        gateway.send(signal.SIGTERM)
        started = time.monotonic()
        got = await waiting
        assert got.error == (502, "upstream_error", "upstream_cut")
        assert got.headers["x-should-retry"] == "false"
        assert await gateway.ended() == 0
        assert 1 <= time.monotonic() - started < 15
        (draining,) = [line for line in gateway.lines() if line["event"] == "draining"]
        assert draining["flights"] == 1
        latest = datetime.fromisoformat(draining["until_at_the_latest"]).timestamp()
        assert asked <= latest <= asked + 15
        assert_spent(await account_in(tmp_path), 2, 2 * PRICE)
        async with SqliteStore(tmp_path / "gateway.db") as store:
            (row,) = await store.usage.report((), None, None)
        assert row.images_unknown == 2


async def test_a_terminal_shows_why_the_stop_waits_and_a_second_signal_exits_at_once(
    tmp_path: Path,
) -> None:
    master, slave = pty.openpty()
    shown = bytearray()
    asyncio.get_running_loop().add_reader(master, lambda: shown.extend(os.read(master, 65_536)))
    environ = {
        "UPSTREAM_API_KEY": UPSTREAM_KEY,
        "STORE_URL": "sqlite:gateway.db",
        "KEYS_PEPPER_FILE": "pepper",
        "SERVER_DRAIN_SECONDS": "20.5",
        "LOG_FORMAT": "json",
    }
    async with (
        sandbox(latency=30) as upstream,
        program(tmp_path, UPSTREAM_BASE_URL=upstream.url, **environ) as gateway,
    ):
        await gateway.start("serve", stderr=slave)
        await until(lambda: b'"started"' in shown, 60)
        (url,) = re.findall(r'"public":"(http://[0-9.:]+)"', shown.decode())
        headers = {"Authorization": f"Bearer {await key_in(tmp_path)}"}
        async with aiohttp.ClientSession(base_url=url, headers=headers) as session:
            body = {"prompt": "slow"}
            waiting = asyncio.create_task(session.post("/v1/images/generations", json=body))
            await until(lambda: upstream.counts.in_flight == 1)
            gateway.send(signal.SIGINT)
            gateway.send(signal.SIGTERM)  # repeats it, as supervisors that signal a group do
            await asyncio.sleep(ECHO_SECONDS + 0.2)
            assert b"Waiting for 1 purchase in flight, at most 21 s. Ctrl-C again" in shown
            started = time.monotonic()
            gateway.send(signal.SIGINT)
            assert await gateway.ended() == 1
            assert time.monotonic() - started < 10
            with pytest.raises(aiohttp.ClientError):
                await waiting
        await until(lambda: b"exited at once: a sweep will charge open purchases" in shown)
        assert len((await account_in(tmp_path)).holds) == 1
    asyncio.get_running_loop().remove_reader(master)
    os.close(master)
    os.close(slave)


async def test_readyz_reports_an_unavailable_store(tmp_path: Path) -> None:
    async with sandbox() as upstream, running_process(tmp_path, upstream.url) as gateway:
        key = await key_in(tmp_path)
        assert (await gateway.generate(key, "kept")).status == 200
        (tmp_path / "gateway.db").rename(tmp_path / "elsewhere")
        await until(lambda: has_status(gateway, 503))
        assert (await gateway.admin("/readyz")).json["reason"] == "store_unavailable"
        assert (await gateway.admin("/healthz")).status == 200
        assert (await gateway.generate(key, "new")).error[2] == "store_unavailable"
        assert status(await gateway.generate(key, "kept")) == "gateway; hit"
        (tmp_path / "elsewhere").rename(tmp_path / "gateway.db")
        await until(lambda: has_status(gateway, 200))
        assert (await gateway.generate(key, "new")).status == 200
        await until(lambda: any(line["event"] == "the store is back" for line in gateway.lines()))
        logged = [line["event"] for line in gateway.lines() if "store is" in line["event"]]
        assert {"the store is away", "the store is back"} == set(logged)
        assert len(logged) <= 6
