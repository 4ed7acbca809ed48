"""A restart buys nothing again: the cache outlives the process."""

import resource
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.upstream.sandbox import Sandbox
from tests.support.process import GatewayProcess, program, running_process
from tests.support.redis import free_port
from tests.support.rig import UPSTREAM_KEY
from tests.support.steps import drawing, key_in, status

TOML = '[cache]\nkeep_path = "data/cache"'
FILE = Path("data/cache/answers")
PROMPT = "canary: a very secret plan"


def sandbox(**settings: Any) -> Sandbox:
    return Sandbox(drawing(**settings))


def logged(gateway: GatewayProcess, event: str) -> dict[str, Any]:
    (line,) = [line for line in gateway.lines() if line.get("event") == event]
    return line


async def test_a_restart_buys_nothing_again(tmp_path: Path) -> None:
    async with sandbox() as upstream:
        async with running_process(tmp_path, upstream.url, TOML) as gateway:
            key = await key_in(tmp_path)
            bought = [await gateway.generate(key, f"{PROMPT} {i}") for i in range(20)]
            started = time.monotonic()
            assert await gateway.terminate() == 0
            assert time.monotonic() - started < 2
            assert gateway.lines()[-1]["event"] == "stopped"
            assert logged(gateway, "cache kept")["answers"] == 20
        async with running_process(tmp_path, upstream.url, TOML) as gateway:
            assert logged(gateway, "cache put back")["answers"] == 20
            for i, former in enumerate(bought):
                got = await gateway.generate(key, f"{PROMPT} {i}")
                assert (status(got), got.body) == ("gateway; hit", former.body)
                assert got.headers["x-gateway-saved-usd"] == former.headers["x-gateway-cost-usd"]
            page = (await gateway.admin("/metrics")).body.decode()
            assert 'gateway_cache_entries{tier="memory"} 20.0' in page
            await gateway.terminate()
        async with running_process(tmp_path, upstream.url, TOML) as gateway:
            other = await key_in(tmp_path, "other")
            assert status(await gateway.generate(other, f"{PROMPT} 0")).endswith("stored")
        assert upstream.counts.calls == 21


async def test_the_file_holds_no_secret(tmp_path: Path) -> None:
    async with sandbox() as upstream, running_process(tmp_path, upstream.url, TOML) as gateway:
        key = await key_in(tmp_path)
        body = (await gateway.generate(key, PROMPT)).body
        await gateway.terminate()
    file = tmp_path / FILE
    content = file.read_bytes()
    # The sandbox repeats the prompt as the revised one, inside its answer.
    rest = content.replace(body, b"")
    assert len(rest) == len(content) - len(body)
    for secret in (b"canary", b"secret plan", key.encode(), UPSTREAM_KEY.encode(), b"team"):
        assert secret not in rest
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_it_is_off_by_default(tmp_path: Path) -> None:
    async with sandbox() as upstream:
        async with running_process(tmp_path, upstream.url) as gateway:
            key = await key_in(tmp_path)
            await gateway.generate(key, PROMPT)
            await gateway.terminate()
        assert not (tmp_path / "data").exists()
        async with running_process(tmp_path, upstream.url) as gateway:
            assert status(await gateway.generate(key, PROMPT)).endswith("stored")


async def test_it_can_be_switched_on_for_the_next_stop_and_needs_no_redis(tmp_path: Path) -> None:
    away = {"CACHE_URL": f"redis://127.0.0.1:{free_port()}/0"}
    async with sandbox() as upstream:
        async with running_process(tmp_path, upstream.url, **away) as gateway:
            key = await key_in(tmp_path)
            await gateway.generate(key, PROMPT)
            await gateway.reread(TOML)
            await gateway.terminate()
        async with running_process(tmp_path, upstream.url, TOML, **away) as gateway:
            assert status(await gateway.generate(key, PROMPT)) == "gateway; hit"


async def test_an_answer_ends_when_it_would_have_ended(tmp_path: Path) -> None:
    async with sandbox() as upstream:
        toml = f"{TOML}\nttl_seconds = 4"
        async with running_process(tmp_path, upstream.url, toml) as gateway:
            key = await key_in(tmp_path)
            ends = time.time() + 4
            await gateway.generate(key, PROMPT)
            await gateway.terminate()
        async with running_process(tmp_path, upstream.url, toml) as gateway:
            got = await gateway.generate(key, PROMPT)
            assert status(got) == "gateway; hit" or time.time() > ends
            time.sleep(max(0.0, ends - time.time() + 0.5))  # noqa: ASYNC251 - nothing else runs
            assert status(await gateway.generate(key, PROMPT)).endswith("stored")


@pytest.mark.parametrize("damage", ["foreign", "truncated", "flipped", "older version"])
async def test_a_damaged_file_is_skipped_with_a_line(tmp_path: Path, damage: str) -> None:
    async with sandbox() as upstream:
        async with running_process(tmp_path, upstream.url, TOML) as gateway:
            key = await key_in(tmp_path)
            await gateway.generate(key, PROMPT)
            await gateway.terminate()
        file = tmp_path / FILE
        content = file.read_bytes()
        file.write_bytes(
            {
                "foreign": b"\x7fELF" + content,
                "truncated": content[:-100],
                "flipped": content[:-100] + b"!" + content[-99:],
                "older version": content.replace(b" 1\n", b" 0\n", 1),
            }[damage]
        )
        async with running_process(tmp_path, upstream.url, TOML) as gateway:
            whole = damage in ("foreign", "older version")
            logged(gateway, "kept cache skipped" if whole else "kept cache read in part")
            assert status(await gateway.generate(key, PROMPT)).endswith("stored")
            assert "canary" not in str(gateway.lines())
            await gateway.terminate()
        async with running_process(tmp_path, upstream.url, TOML) as gateway:
            assert status(await gateway.generate(key, PROMPT)) == "gateway; hit"


async def test_a_full_disk_is_a_line_and_a_clean_exit(tmp_path: Path) -> None:
    async with sandbox(picture="drawn") as upstream:
        async with running_process(tmp_path, upstream.url, TOML) as gateway:
            key = await key_in(tmp_path)
            sizes = [len((await gateway.generate(key, n=10)).body) for _ in range(5)]
            limit = 1_000_000
            assert sum(sizes) > 2 * limit
            resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (limit, limit))
            assert await gateway.terminate() == 0
            assert logged(gateway, "cache not kept")["cause"] == "File too large"
            assert gateway.lines()[-1]["event"] == "stopped"
        assert list((tmp_path / FILE).parent.iterdir()) == []
        async with running_process(tmp_path, upstream.url, TOML) as gateway:
            assert (await gateway.generate(key)).status == 200


async def test_the_sandbox_leaves_the_real_answers_alone(tmp_path: Path) -> None:
    async with program(tmp_path, CACHE_KEEP_PATH="data/cache") as gateway:
        await gateway.start("serve", "--sandbox")
        await gateway.listening()
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
        assert not (tmp_path / "data" / "cache").exists()
