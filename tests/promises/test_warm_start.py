"""A restart buys nothing again: the cache outlives the process."""

import signal
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.server.gateway import Gateway
from gateway.upstream.sandbox import Sandbox
from tests.support.process import program, running_process
from tests.support.rig import UPSTREAM_KEY, Rig, rig_of, settings_for
from tests.support.steps import calls, drawing, key_in, status

PROMPT = "canary: a very secret plan"

Run = Callable[..., AbstractAsyncContextManager[Rig]]
"""Starts a gateway on the same data and before the same upstream, with further settings."""


@pytest.fixture
async def upstream() -> AsyncIterator[Sandbox]:
    async with Sandbox(drawing()) as running:
        yield running


@pytest.fixture
def run(tmp_path: Path, upstream: Sandbox) -> Run:
    def start(**environ: str) -> object:
        return rig_of(Gateway(settings_for(tmp_path, upstream, **environ)), upstream)

    return start  # type: ignore[return-value]


def answers(folder: Path) -> list[Path]:
    """The files of cached answers."""
    return sorted(folder.rglob("*.answer"))


async def test_a_restarted_process_buys_nothing_again(tmp_path: Path, upstream: Sandbox) -> None:
    async with running_process(tmp_path, upstream.url) as gateway:
        key = await key_in(tmp_path)
        bought = [await gateway.generate(key, f"{PROMPT} {i}") for i in range(20)]
        assert await gateway.terminate() == 0
    async with running_process(tmp_path, upstream.url) as gateway:
        for i, former in enumerate(bought):
            for _ in range(2):
                got = await gateway.generate(key, f"{PROMPT} {i}")
                assert (status(got), got.body) == ("gateway; hit", former.body)
                assert got.headers["x-gateway-saved-usd"] == former.headers["x-gateway-cost-usd"]
        page = (await gateway.admin("/metrics")).body.decode()
        for line in (
            'gateway_cache_entries{tier="memory"} 20.0',
            'gateway_cache_lookups_total{result="hit",tier="disk"} 20.0',
            'gateway_cache_lookups_total{result="hit",tier="memory"} 20.0',
            'gateway_cache_evictions_total{reason="damaged",tier="disk"} 0.0',
            'gateway_pictures_not_kept_total{reason="disk_full"} 0.0',
        ):
            assert line in page
        other = await key_in(tmp_path, "other")
        assert status(await gateway.generate(other, f"{PROMPT} 0")).endswith("stored")
    assert upstream.counts.calls == 21


async def test_what_a_killed_process_had_written_is_there(
    tmp_path: Path, upstream: Sandbox
) -> None:
    folder = tmp_path / "data" / "images"
    async with running_process(tmp_path, upstream.url) as gateway:
        key = await key_in(tmp_path)
        former = await gateway.generate(key, PROMPT)
        await gateway.wait_for(lambda: len(answers(folder)) == 1)
        gateway.send(signal.SIGKILL)
        await gateway.ended()
    async with running_process(tmp_path, upstream.url) as gateway:
        got = await gateway.generate(key, PROMPT)
        assert (status(got), got.body) == ("gateway; hit", former.body)


async def test_the_files_hold_no_secret(tmp_path: Path, run: Run) -> None:
    async with run() as rig:
        key = await rig.key()
        await rig.generate(key, PROMPT)
    (file,) = answers(tmp_path)
    content = file.read_bytes()
    for secret in (key.encode(), UPSTREAM_KEY.encode(), b"team"):
        assert secret not in content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "images").stat().st_mode) == 0o700


async def test_teams_without_cache_and_no_store_leave_nothing(tmp_path: Path, run: Run) -> None:
    async with run() as rig:
        await rig.generate(await rig.key("uncached", cache=False))
        await rig.generate(await rig.key(), headers={"Cache-Control": "no-store"})
        assert calls(rig) == 2
    assert answers(tmp_path) == []


async def test_it_can_be_switched_off(tmp_path: Path, run: Run) -> None:
    async with run(IMAGES_ENABLED="false") as rig:
        key = await rig.key()
        await rig.generate(key)
        assert status(await rig.generate(key)) == "gateway; hit"
    assert not (tmp_path / "images").exists()


async def test_a_purge_and_a_lookup_know_the_disk(run: Run) -> None:
    async with run() as rig:
        key = await rig.key()
        for prompt in ("one", "two"):
            await rig.generate(key, prompt)
    async with run() as rig:
        wanted = {"team": "team", "request": {"prompt": "one"}}
        found = (await rig.ask_admin("POST", "cache/lookup", json=wanted)).json
        assert (found["kept"], found["tier"]) == (True, "disk")
        purge = {"fingerprint": found["fingerprint"]}
        assert (await rig.ask_admin("POST", "cache/purge", json=purge)).json["purged"]
        state = (await rig.ask_admin("GET", "cache")).json
        assert (state["disk"]["misses"], state["redis"]) == (0, None)
        assert state["disk"]["bytes"] > 0
        assert status(await rig.generate(key, "one")).endswith("stored")
        assert status(await rig.generate(key, "two")) == "gateway; hit"
    async with run() as rig:
        await rig.ask_admin("POST", "cache/purge", json={"all": True})
        assert status(await rig.generate(key, "two")).endswith("stored")


async def test_without_its_folder_every_request_is_answered(tmp_path: Path, run: Run) -> None:
    with capture_logs() as lines:
        async with run() as rig:
            key = await rig.key()
            (tmp_path / "images").rename(tmp_path / "away")
            for prompt in ("one", "two"):
                assert status(await rig.generate(key, prompt)).endswith("stored")
                assert status(await rig.generate(key, prompt)) == "gateway; hit"
    (line,) = [line for line in lines if line["event"] == "pictures are not kept"]
    assert line["reason"] == "folder_missing"
    assert not (tmp_path / "images").exists()


async def test_the_former_snapshot_is_a_warning_and_without_effect(
    tmp_path: Path, upstream: Sandbox
) -> None:
    toml = '[cache]\nkeep_path = "data/cache"'
    async with running_process(tmp_path, upstream.url, toml) as gateway:
        assert await gateway.terminate() == 0
        assert "keep_path: has no effect any more: [images]" in gateway.err
    assert not (tmp_path / "data" / "cache").exists()


async def test_the_sandbox_leaves_the_real_answers_alone(tmp_path: Path, run: Run) -> None:
    async with run() as rig:
        key = await rig.key()
        await rig.generate(key)
    with capture_logs():
        async with program(tmp_path) as gateway:
            await gateway.start("serve", "--sandbox")
            await gateway.listening()
            gateway.send(signal.SIGTERM)
            assert await gateway.ended() == 0
    async with run() as rig:
        assert status(await rig.generate(key)) == "gateway; hit"
