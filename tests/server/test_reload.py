"""A reload, by SIGHUP or by a changed key file: requests in flight are not affected."""

import asyncio
import logging
import os
import pty
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.upstream.sandbox import Sandbox
from tests.support.process import program, running_process
from tests.support.reloading import KEPT, READ_AGAIN, reloadable
from tests.support.rig import FLAT, UPSTREAM_KEY, Client
from tests.support.steps import books_in, drawing, key_in, status, until, until_asked
from tests.support.tls import Issued

CANARY = "sk-canary-0123456789abcdef"


@asynccontextmanager
async def under_load(gateway: Client, key: str, clients: int) -> AsyncIterator[list[int]]:
    """Clients that buy one image after another. Their statuses are complete after the block."""
    statuses: list[int] = []
    done = asyncio.Event()

    async def buy() -> None:
        while not done.is_set():
            statuses.append((await gateway.generate(key, None)).status)
            await asyncio.sleep(0.02)

    buying = [asyncio.create_task(buy()) for _ in range(clients)]
    yield statuses
    done.set()
    await asyncio.gather(*buying)


# -- options in force at once -------------------------------------------------------------------


async def test_prices_limits_cache_bounds_and_log_level_change_at_once(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (rig, config):
        key = await rig.key()
        assert (await rig.generate(key)).headers["x-gateway-cost-usd"] == "0.04"
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
            [log]
            level = "error"
            """
        (line,) = await config.reread(rig.gateway, toml)
        assert line["event"] == READ_AGAIN
        assert {"[cache] enabled", "[limits]", "[models.gpt-image-2]"} < set(line["changed"])
        assert logging.getLogger().level == logging.ERROR
        got = await rig.generate(key)
        assert (status(got), len(got.json["data"])) == ("gateway; fwd=bypass", 2)
        assert got.headers["x-gateway-cost-usd"] == "0.14"
        assert (await rig.generate(key, n=3)).error[0] == 400
        assert (await rig.generate(key, n=2)).error[2] == "insufficient_quota"
        assert (await rig.generate(key, "x" * 100)).status == 413
        assert rig.sandbox.counts.calls == 2
        page = (await rig.admin("/metrics")).body.decode()
        assert 'gateway_quota_limit{limit="images_per_day",team=""} 2.0' in page

        (line,) = await config.reread(rig.gateway, FLAT)
        assert line["event"] == READ_AGAIN
        assert logging.getLogger().level == logging.WARNING  # of libraries, whose infos are noise
        assert status(await rig.generate(key)) == "gateway; hit"
        assert (await rig.generate(key, "x" * 100)).status == 200


async def test_the_upstream_its_timeouts_and_the_drain_change_at_once(tmp_path: Path) -> None:
    toml = '[upstream]\nbase_url = "{}"\nconnect_seconds = 0.5\ntimeout_seconds = 1'
    async with (
        Sandbox(drawing(latency=5)) as second,
        reloadable(tmp_path, UPSTREAM_BASE_URL="http://127.0.0.1:9") as (rig, config),
    ):
        config.environ["GATEWAY_UPSTREAM_BASE_URL"] = ""
        key, first = await rig.key(), rig.sandbox
        await config.reread(rig.gateway, toml.format(first.url))
        assert (await rig.generate(key)).status == 200
        await config.reread(rig.gateway, toml.format(second.url))
        assert (await rig.generate(key)).error[2] == "upstream_timeout"

        bounds = "[server]\nmax_in_flight = 1\ndrain_seconds = 0.5"
        await config.reread(rig.gateway, f'[upstream]\nbase_url = "{second.url}"\n{bounds}')
        second.settings.latency = 0.5
        assert (await rig.generate(key, None)).status == 200
        assert (first.counts.calls, second.counts.calls) == (1, 2)
        second.settings.latency = 30
        waiting = asyncio.create_task(rig.generate(key, None))
        await until(lambda: second.counts.asked == 3)
        assert (await rig.generate(key, None)).error[2] == "overloaded"
        await asyncio.wait_for(rig.gateway.stop(), 20)
        assert (await waiting).error[2] == "upstream_cut"


# -- options that keep their values -------------------------------------------------------------


async def test_a_request_in_flight_keeps_the_options_that_it_began_with(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (rig, config):
        key = await rig.key()
        rig.sandbox.settings.latency = 1.0
        waiting = [asyncio.create_task(rig.generate(key, f"p{i}")) for i in range(5)]
        await until_asked(rig, 5)
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
        (line,) = await config.reread(rig.gateway, toml)
        assert "[models.gpt-image-2]" in line["changed"]
        for got in await asyncio.gather(*waiting):
            assert status(got) == "gateway; fwd=miss; stored"
            assert got.headers["x-gateway-cost-usd"] == "0.04"
        await rig.assert_books(5)
        assert (await rig.generate(key, model="gpt-image-2")).status == 400
        await config.reread(rig.gateway, FLAT)
        assert status(await rig.generate(key, "p0")) == "gateway; hit"


async def test_a_faulty_configuration_changes_nothing_and_each_fault_is_a_log_line(
    tmp_path: Path,
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(UPSTREAM_KEY)
    files = {"UPSTREAM_API_KEY": "", "UPSTREAM_API_KEY_FILE": str(key_file)}
    async with reloadable(tmp_path, **files) as (rig, config):

        async def faults(content: bytes | None = None) -> list[str]:
            if content is not None:
                config.path.write_bytes(content)
            lines = await config.reread(rig.gateway)
            assert {(line["event"], line["log_level"]) for line in lines} == {(KEPT, "error")}
            assert CANARY not in str(lines)
            return [line["fault"] for line in lines]

        key = await rig.key()
        assert (await rig.generate(key)).headers["x-gateway-cost-usd"] == "0.04"
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
        found = await faults(toml.encode())
        places = [fault.removeprefix(f"{config.path}: ").partition(":")[0] for fault in found]
        assert places == ["[server] max_in_flight", "[upstream] api_key"]
        for content in (b"[", b"\xff", b"[upstream]\nconnect_seconds = 400"):
            assert len(await faults(content)) == 1
        config.path.unlink()
        assert await faults() == [f"{config.path}: cannot be read: No such file or directory"]
        key_file.write_text("")
        (fault,) = await faults(b"[cache]\nenabled = false")
        assert fault.startswith(f"[upstream] api_key_file: the file {key_file} must contain")

        assert status(await rig.generate(key)) == "gateway; hit"
        assert (await rig.generate(key, "pear")).headers["x-gateway-cost-usd"] == "0.04"
        key_file.write_text(UPSTREAM_KEY)
        assert (await config.reread(rig.gateway, FLAT))[-1]["event"] == READ_AGAIN


async def test_options_that_need_a_restart_are_logged_and_keep_their_values(tmp_path: Path) -> None:
    cert, tls_key = Issued().write(tmp_path)
    toml = f'[server]\nport = 0\n[store]\nurl = "sqlite:{tmp_path}/gateway.db"\n{FLAT}'
    async with reloadable(tmp_path, toml, SERVER_PORT="", STORE_URL="") as (rig, config):
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
        *waiting, done = await config.reread(rig.gateway, changed)
        assert {line["event"] for line in waiting} == {"needs a restart"}
        options = ["[server] port", "[server] tls_cert", "[server] tls_key", "[store] url"]
        assert [line["option"] for line in waiting] == options
        assert done["changed"] == ["[cache] url_ttl_seconds"]
        assert (await rig.models(await rig.key())).status == 200
        assert not (tmp_path / "other.db").exists()


# -- the upstream's key -------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["watching the file", "SIGHUP"])
async def test_a_changed_key_file_is_picked_up_without_a_failed_request(
    tmp_path: Path, by: str
) -> None:
    old, new, file = (tmp_path / name for name in ("old", "new", "key"))
    old.write_text(UPSTREAM_KEY)
    new.write_text("sk-upstream-new")
    file.symlink_to(old)
    files = {"UPSTREAM_API_KEY": "", "UPSTREAM_API_KEY_FILE": str(file)}
    with capture_logs() as lines:
        async with (
            reloadable(tmp_path, **files) as (rig, config),
            under_load(rig, await rig.key(), clients=1) as statuses,
        ):
            await until(lambda: len(statuses) > 2)
            rig.sandbox.settings.api_key = None  # both keys work for a moment
            (tmp_path / "link").symlink_to(new)
            (tmp_path / "link").rename(file)
            if by == "SIGHUP":
                (line,) = await config.reread(rig.gateway)
                assert line["changed"] == ["[upstream] api_key"]
            else:
                await until(lambda: "upstream key changed" in str(lines))
            known = len(statuses)
            await until(lambda: len(statuses) > known + 1)  # those before may have the old key
            rig.sandbox.settings.api_key = "sk-upstream-new"
            await until(lambda: len(statuses) > known + 4)
    assert set(statuses) == {200}
    assert "sk-upstream" not in str(lines)


# -- the signal, in a process of its own --------------------------------------------------------


async def test_a_storm_of_signals_under_load(tmp_path: Path) -> None:
    async with (
        Sandbox(drawing(latency=0.05)) as upstream,
        running_process(tmp_path, upstream.url, FLAT) as gateway,
    ):
        async with under_load(gateway, await key_in(tmp_path), clients=8) as statuses:
            for turn in range(100):
                # Replaced as a whole: half of a file may be valid, too.
                draft = gateway.config.with_suffix(".draft")
                draft.write_text(f"{FLAT}\n[limits]\nimages_per_day = {10**6 + turn}")
                draft.replace(gateway.config)
                gateway.send(signal.SIGHUP)
                await asyncio.sleep(0.01)
            await until(lambda: READ_AGAIN in gateway.err)
        assert set(statuses) == {200}
        assert await gateway.terminate() == 0
    async with books_in(tmp_path) as books:
        await books.assert_books(len(statuses))


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
