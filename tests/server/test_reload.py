"""SIGHUP and a changed key file, in real processes: requests in flight are not affected."""

import asyncio
import os
import pty
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.quota.account import team_account
from gateway.stores.sqlite import SqliteStore
from gateway.upstream.sandbox import Sandbox
from tests.support.process import GatewayProcess, program, running_process
from tests.support.rig import FLAT, PRICE, UPSTREAM_KEY
from tests.support.steps import drawing, key_in, status, until
from tests.support.tls import Issued

CANARY = "sk-canary-0123456789abcdef"
READ_AGAIN = "configuration read again"
KEPT = "configuration kept"


@asynccontextmanager
async def reloadable(
    folder: Path, toml: str = FLAT, **environ: str
) -> AsyncIterator[tuple[GatewayProcess, Sandbox, str]]:
    """A gateway process, its upstream and a team key."""
    async with (
        Sandbox(drawing()) as upstream,
        running_process(folder, upstream.url, toml, **environ) as gateway,
    ):
        yield gateway, upstream, await key_in(folder)


async def spent(folder: Path) -> int:
    async with SqliteStore(folder / "gateway.db") as store:
        return (await store.accounts.load([team_account("team")])).accounts[0][0].day.cost


def faults(lines: list[dict[str, Any]]) -> list[str]:
    assert {line["event"] for line in lines} == {KEPT}
    assert {line["level"] for line in lines} == {"error"}
    return [line["fault"] for line in lines]


@asynccontextmanager
async def under_load(gateway: GatewayProcess, key: str, clients: int) -> AsyncIterator[list[int]]:
    """Clients that buy one image after another. Their statuses are complete after the block."""
    statuses: list[int] = []
    done = asyncio.Event()

    async def buy() -> None:
        while not done.is_set():
            statuses.append((await gateway.generate(key)).status)
            await asyncio.sleep(0.02)

    buying = [asyncio.create_task(buy()) for _ in range(clients)]
    yield statuses
    done.set()
    await asyncio.gather(*buying)


# -- options in force at once ---------------------------------------------------------------------


async def test_prices_limits_cache_and_bounds_change_at_once(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (gateway, upstream, key):
        assert (await gateway.generate(key, "apple")).headers["x-gateway-cost-usd"] == "0.04"
        toml = """
            [models."gpt-image-2"]
            prices = 0.07
            max_n = 2
            [models."gpt-image-2".defaults]
            n = 2
            [limits]
            images_per_day = 2
            [server]
            max_body_bytes = 100
            [cache]
            enabled = false
            """
        (line,) = await gateway.reread(toml)
        assert line["event"] == READ_AGAIN
        assert line["changed"] == [
            "[server] max_body_bytes",
            "[cache] enabled",
            "[limits]",
            "[models.gpt-image-2]",
        ]
        got = await gateway.generate(key, "apple")
        assert (status(got), len(got.json["data"])) == ("gateway; fwd=bypass", 2)
        assert got.headers["x-gateway-cost-usd"] == "0.14"
        assert (await gateway.generate(key, n=3)).error[0] == 400
        assert (await gateway.generate(key, n=2)).error[2] == "insufficient_quota"
        assert (await gateway.generate(key, "x" * 100)).status == 413
        assert upstream.counts.calls == 2
        page = (await gateway.admin("/metrics")).body.decode()
        assert 'gateway_quota_limit{limit="images_per_day",team=""} 2.0' in page

        (line,) = await gateway.reread(FLAT)
        assert line["event"] == READ_AGAIN
        assert status(await gateway.generate(key, "apple")) == "gateway; hit"
        assert (await gateway.generate(key, "x" * 100)).status == 200


async def test_the_log_level_changes_at_once(tmp_path: Path) -> None:
    def requests_logged() -> int:
        return sum(line.get("event") == "request" for line in gateway.lines())

    async with reloadable(tmp_path) as (gateway, _, key):
        gateway.config.write_text('[log]\nlevel = "error"')  # the reload itself is not logged
        gateway.send(signal.SIGHUP)
        await asyncio.sleep(1)
        await gateway.generate(key)
        await gateway.reread(FLAT)
        await gateway.generate(key)
        await until(lambda: requests_logged() > 0)
        assert requests_logged() == 1


async def test_the_upstream_its_timeouts_and_the_drain_change_at_once(tmp_path: Path) -> None:
    toml = '[upstream]\nbase_url = "{}"\nconnect_seconds = 0.5\ntimeout_seconds = 1'
    async with (
        Sandbox(drawing()) as first,
        Sandbox(drawing(latency=5)) as second,
        running_process(tmp_path, "", toml.format(first.url), UPSTREAM_BASE_URL="") as gateway,
    ):
        key = await key_in(tmp_path)
        assert (await gateway.generate(key, "apple")).status == 200
        await gateway.reread(toml.format(second.url))
        assert (await gateway.generate(key, "apple")).error[2] == "upstream_timeout"

        await gateway.reread(
            f"""
            [upstream]
            base_url = "{second.url}"
            [server]
            max_in_flight = 1
            drain_seconds = 0.5
            """
        )
        second.settings.latency = 0.5
        assert (await gateway.generate(key, "apple")).status == 200
        assert (first.counts.calls, second.counts.calls) == (1, 2)
        second.settings.latency = 30
        waiting = asyncio.create_task(gateway.generate(key))
        await until(lambda: second.counts.asked == 3)
        assert (await gateway.generate(key)).error[2] == "overloaded"
        started = time.monotonic()
        gateway.send(signal.SIGTERM)
        assert (await waiting).error[2] == "upstream_cut"
        assert await gateway.ended() == 0
        assert time.monotonic() - started < 4


# -- options that keep their values ---------------------------------------------------------------


async def test_a_request_in_flight_keeps_the_options_that_it_began_with(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (gateway, upstream, key):
        upstream.settings.latency = 1.0
        waiting = [asyncio.create_task(gateway.generate(key, f"p{i}")) for i in range(5)]
        await until(lambda: upstream.counts.in_flight == 5)
        toml = """
            [models.other]
            prices = 9
            [cache]
            enabled = false
            [upstream]
            connect_seconds = 0.01
            timeout_seconds = 0.02
            path = "/nowhere"
            """
        (line,) = await gateway.reread(toml)
        assert "[models.gpt-image-2]" in line["changed"]
        for got in await asyncio.gather(*waiting):
            assert status(got) == "gateway; fwd=miss; stored"
            assert got.headers["x-gateway-cost-usd"] == "0.04"
        assert await spent(tmp_path) == 5 * PRICE
        assert (await gateway.generate(key, model="gpt-image-2")).status == 400
        await gateway.reread(FLAT)
        assert status(await gateway.generate(key, "p0")) == "gateway; hit"


async def test_a_faulty_configuration_changes_nothing_and_each_fault_is_a_log_line(
    tmp_path: Path,
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(UPSTREAM_KEY)
    async with reloadable(tmp_path, UPSTREAM_API_KEY="", UPSTREAM_API_KEY_FILE=str(key_file)) as (
        gateway,
        _,
        key,
    ):
        assert (await gateway.generate(key, "apple")).headers["x-gateway-cost-usd"] == "0.04"
        toml = f"""
            [server]
            max_in_flight = "{CANARY}"
            [cache]
            enabled = false
            [upstream]
            api_key = "{CANARY}"
            [models."gpt-image-2"]
            prices = 0.5
            """
        found = faults(await gateway.reread(toml))
        places = [fault.removeprefix(f"{gateway.config}: ").partition(":")[0] for fault in found]
        assert places == ["[server] max_in_flight", "[upstream] api_key"]
        for content in (b"[", b"\xff", b"[upstream]\nconnect_seconds = 400"):
            gateway.config.write_bytes(content)
            assert len(faults(await gateway.reread())) == 1
        gateway.config.unlink()
        assert faults(await gateway.reread()) == [
            f"{gateway.config}: cannot be read: No such file or directory"
        ]
        key_file.write_text("")
        (fault,) = faults(await gateway.reread("[cache]\nenabled = false"))
        assert fault.startswith(f"[upstream] api_key_file: the file {key_file} must contain")

        assert status(await gateway.generate(key, "apple")) == "gateway; hit"
        assert (await gateway.generate(key, "pear")).headers["x-gateway-cost-usd"] == "0.04"
        assert CANARY not in str(gateway.lines())
        key_file.write_text(UPSTREAM_KEY)
        assert (await gateway.reread(FLAT))[-1]["event"] == READ_AGAIN


async def test_options_that_need_a_restart_are_logged_and_keep_their_values(tmp_path: Path) -> None:
    cert, tls_key = Issued().write(tmp_path)
    toml = f'[server]\nport = 0\n[store]\nurl = "sqlite:{tmp_path}/gateway.db"\n{FLAT}'
    async with reloadable(tmp_path, toml, SERVER_PORT="", STORE_URL="") as (gateway, _, key):
        changed = f"""
            [server]
            port = 1
            tls_cert = "{cert}"
            tls_key = "{tls_key}"
            [store]
            url = "sqlite:other.db"
            [cache]
            url_ttl_seconds = 5
            {FLAT}"""
        *waiting, done = await gateway.reread(changed)
        assert {line["event"] for line in waiting} == {"needs a restart"}
        options = ["[server] port", "[server] tls_cert", "[server] tls_key", "[store] url"]
        assert [line["option"] for line in waiting] == options
        assert done["changed"] == ["[cache] url_ttl_seconds"]
        assert (await gateway.models(key)).status == 200
        assert not (tmp_path / "other.db").exists()


async def test_a_storm_of_signals_under_load(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (gateway, upstream, key):
        upstream.settings.latency = 0.05
        async with under_load(gateway, key, clients=8) as statuses:
            for turn in range(100):
                # Replaced as a whole: half of a file may be valid, too.
                draft = gateway.config.with_suffix(".draft")
                draft.write_text(f"{FLAT}\n[limits]\nimages_per_day = {10**6 + turn}")
                draft.replace(gateway.config)
                gateway.send(signal.SIGHUP)
                await asyncio.sleep(0.01)
        assert set(statuses) == {200}
        await gateway.reread(FLAT)
        assert await spent(tmp_path) == len(statuses) * PRICE
        assert await gateway.terminate() == 0


# -- a reload depends on how the gateway was started ----------------------------------------------


async def test_a_reload_reads_the_default_file_and_a_closed_terminal_stops_the_gateway(
    tmp_path: Path,
) -> None:
    """The shell sends SIGHUP then, too, and nobody could see that the gateway still runs."""
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "gateway.toml"
    file.write_text("")
    master, slave = pty.openpty()
    async with program(tmp_path) as gateway:
        await gateway.start("serve", "--demo", stdin=slave)
        os.close(slave)
        await gateway.listening()
        file.write_text("[cache]\nenabled = false")
        gateway.send(signal.SIGHUP)
        await until(lambda: READ_AGAIN in gateway.err)
        assert '"changed":["[cache] enabled"]' in gateway.err
        assert "restart" not in gateway.err  # the sandbox is still the upstream
        file.unlink()
        gateway.send(signal.SIGHUP)
        await until(lambda: "config/gateway.toml: cannot be read" in gateway.err)
        assert KEPT in gateway.err
        os.close(master)
        gateway.send(signal.SIGHUP)
        assert await gateway.ended() == 0
        assert '"event":"stopped"' in gateway.err


# -- the upstream's key -------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["watching the file", "SIGHUP"])
async def test_a_changed_key_file_is_picked_up_without_a_failed_request(
    tmp_path: Path, by: str
) -> None:
    old, new, file = (tmp_path / name for name in ("old", "new", "key"))
    old.write_text(UPSTREAM_KEY)
    new.write_text("sk-upstream-new")
    file.symlink_to(old)
    async with reloadable(tmp_path, UPSTREAM_API_KEY="", UPSTREAM_API_KEY_FILE=str(file)) as (
        gateway,
        upstream,
        key,
    ):
        async with under_load(gateway, key, clients=1) as statuses:
            await asyncio.sleep(0.3)
            upstream.settings.api_key = None  # both keys work for a moment
            (tmp_path / "link").symlink_to(new)
            (tmp_path / "link").rename(file)
            if by == "SIGHUP":
                (line,) = await gateway.reread()
                assert line["changed"] == ["[upstream] api_key"]
            else:
                await until(lambda: "upstream key changed" in str(gateway.lines()))
            await asyncio.sleep(0.1)
            upstream.settings.api_key = "sk-upstream-new"
            await asyncio.sleep(0.3)
        assert set(statuses) == {200}
        assert "sk-upstream" not in str(gateway.lines())
