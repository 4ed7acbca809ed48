"""A restart buys nothing again: the cache outlives the process."""

import resource
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.server.gateway import Gateway
from gateway.upstream.sandbox import Sandbox
from tests.support.process import program, running_process
from tests.support.redis import free_port
from tests.support.rig import UPSTREAM_KEY, Rig, rig_of, settings_for
from tests.support.steps import calls, drawing, key_in, status

TOML = '[cache]\nkeep_path = "data/cache"'
FILE = Path("cache/answers")
PROMPT = "canary: a very secret plan"

Run = Callable[..., AbstractAsyncContextManager[Rig]]
"""Starts a gateway on the same data and before the same upstream, with further settings."""


@pytest.fixture
async def upstream() -> AsyncIterator[Sandbox]:
    async with Sandbox(drawing()) as running:
        yield running


@pytest.fixture
def run(tmp_path: Path, upstream: Sandbox) -> Run:
    def start(keep: str | Path = tmp_path / "cache", **environ: str) -> object:
        settings = settings_for(tmp_path, upstream, CACHE_KEEP_PATH=str(keep), **environ)
        return rig_of(Gateway(settings), upstream)

    return start  # type: ignore[return-value]


async def test_a_restarted_process_buys_nothing_again(tmp_path: Path, upstream: Sandbox) -> None:
    async with running_process(tmp_path, upstream.url, TOML) as gateway:
        key = await key_in(tmp_path)
        bought = [await gateway.generate(key, f"{PROMPT} {i}") for i in range(20)]
        started = time.monotonic()
        assert await gateway.terminate() == 0
        assert time.monotonic() - started < 10
        assert gateway.lines()[-1]["event"] == "stopped"
    async with running_process(tmp_path, upstream.url, TOML) as gateway:
        for i, former in enumerate(bought):
            got = await gateway.generate(key, f"{PROMPT} {i}")
            assert (status(got), got.body) == ("gateway; hit", former.body)
            assert got.headers["x-gateway-saved-usd"] == former.headers["x-gateway-cost-usd"]
        page = (await gateway.admin("/metrics")).body.decode()
        assert 'gateway_cache_entries{tier="memory"} 20.0' in page
        other = await key_in(tmp_path, "other")
        assert status(await gateway.generate(other, f"{PROMPT} 0")).endswith("stored")
    assert upstream.counts.calls == 21


async def test_the_file_holds_no_secret(tmp_path: Path, run: Run) -> None:
    async with run() as rig:
        key = await rig.key()
        body = (await rig.generate(key, PROMPT)).body
    file = tmp_path / FILE
    content = file.read_bytes()
    # The sandbox repeats the prompt as the revised one, inside its answer.
    rest = content.replace(body, b"")
    assert len(rest) == len(content) - len(body)
    for secret in (b"canary", b"secret plan", key.encode(), UPSTREAM_KEY.encode(), b"team"):
        assert secret not in rest
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_it_is_off_by_default_and_can_be_switched_on_for_the_next_stop(
    tmp_path: Path, run: Run, upstream: Sandbox
) -> None:
    async with run(keep="") as rig:
        key = await rig.key()
        await rig.generate(key)
    assert not (tmp_path / FILE).exists()
    away = {"CACHE_URL": f"redis://127.0.0.1:{free_port()}/0"}  # it needs no Redis
    async with run(keep="", **away) as rig:
        assert status(await rig.generate(key)).endswith("stored")
        keep = str(tmp_path / FILE.parent)
        rig.gateway.use(settings_for(tmp_path, upstream, CACHE_KEEP_PATH=keep, **away))
    async with run(**away) as rig:
        assert status(await rig.generate(key)) == "gateway; hit"


async def test_a_damaged_file_is_skipped_with_a_line(tmp_path: Path, run: Run) -> None:
    async with run() as rig:
        key = await rig.key()
        await rig.generate(key, PROMPT)
    file = tmp_path / FILE
    content = file.read_bytes()
    file.write_bytes(content[:-100] + b"!" + content[-99:])
    with capture_logs() as lines:
        async with run() as rig:
            assert status(await rig.generate(key, PROMPT)).endswith("stored")
    assert "cache snapshot read in part" in [line["event"] for line in lines]
    assert "canary" not in str(lines)
    async with run() as rig:
        assert status(await rig.generate(key, PROMPT)) == "gateway; hit"
        assert calls(rig) == 2


async def test_a_full_disk_is_a_line_and_a_clean_exit(tmp_path: Path) -> None:
    async with (
        Sandbox(drawing(picture="drawn")) as upstream,
        running_process(tmp_path, upstream.url, TOML) as gateway,
    ):
        key = await key_in(tmp_path)
        sizes = [len((await gateway.generate(key, n=10)).body) for _ in range(5)]
        limit = 500_000
        assert sum(sizes) > 2 * limit
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (limit, limit))
        assert await gateway.terminate() == 0
        (kept,) = [
            line for line in gateway.lines() if line["event"] == "cache snapshot not written"
        ]
        assert kept["cause"] == "File too large"
        assert gateway.lines()[-1]["event"] == "stopped"
    assert list((tmp_path / "data" / "cache").iterdir()) == []


async def test_the_sandbox_leaves_the_real_answers_alone(tmp_path: Path) -> None:
    async with program(tmp_path, CACHE_KEEP_PATH="data/cache") as gateway:
        await gateway.start("serve", "--sandbox")
        await gateway.listening()
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
        assert not (tmp_path / "data" / "cache").exists()
