"""`gateway serve --demo`: everything that it prints works as pasted."""

import asyncio
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from msgspec import json

from gateway.config.settings import AdminSettings
from gateway.core import key_format
from gateway.core.model import Limits, Team
from gateway.server.demo import banner, demo_key, demo_team, demo_token
from gateway.server.startup import StartError
from gateway.stores.sqlite import SqliteStore
from gateway.upstream.sandbox import Sandbox
from tests.support.directory import put_teams, set_state
from tests.support.money import drawing, until
from tests.support.program import Program, program
from tests.support.rig import UPSTREAM_KEY

LAST_LINE = "Ctrl-C stops it."


def found_in(printed: str, pattern: str) -> str:
    """The only text that matches the group in the pattern."""
    (found,) = set(re.findall(pattern, printed, re.MULTILINE))
    return str(found)


def key_in(printed: str) -> str:
    return found_in(printed, r"(sk-gw-\w+)")


def token_in(printed: str) -> str:
    return found_in(printed, r"^  Token +(gw-admin-[0-9a-f]{64})$")


def dashboard_in(printed: str) -> str:
    return found_in(printed, r"^  Dashboard +(\S+/)$")


def base_in(printed: str) -> str:
    return found_in(printed, r"^  Base URL +(\S+)$")


def curl_in(printed: str) -> str:
    return found_in(printed, r"^(curl .*)$")


async def status(url: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status


def client_in(printed: str) -> str:
    start, end = printed.index("from openai"), printed.index(f"\n{LAST_LINE}")
    return printed[start:end]


async def run(*command: str, stdin: str = "") -> tuple[int, str, str]:
    """Run any program to its end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
    return process.returncode or 0, out.decode(), err.decode()


@asynccontextmanager
async def demo(folder: Path, **environ: str) -> AsyncIterator[Program]:
    async with program(folder, **environ) as running:
        await running.start("serve", "--demo")
        await running.printed(LAST_LINE)
        yield running


async def test_everything_printed_works_as_pasted(tmp_path: Path) -> None:
    async with demo(tmp_path, LOG_LEVEL="debug") as running:
        printed = running.out
        key, curl, client = key_in(printed), curl_in(printed), client_in(printed)
        assert base_in(printed) in curl
        assert base_in(printed) in client
        assert len(client.strip().splitlines()) == 5
        assert "sandbox" in printed

        code, out, err = await run("sh", stdin=curl + "\n")
        assert (code, err) == (0, "")
        (image,) = json.decode(out)["data"]
        async with aiohttp.ClientSession() as session, session.get(image["url"]) as picture:
            assert (await picture.read()).startswith(b"\x89PNG")

        code, out, err = await run(sys.executable, "-", stdin=client)
        assert (code, err) == (0, "")
        assert out.startswith("http")

        assert (tmp_path / "data" / "demo.key").read_text().strip() == key
        assert (tmp_path / "data" / "demo.key").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        assert await status(dashboard_in(printed), "") == 200
        assert await status(f"{dashboard_in(printed)}admin/v1/teams", token_in(printed)) == 200
        assert (tmp_path / "data" / "demo-admin.token").stat().st_mode & 0o777 == 0o600
        assert {file.name.partition("-")[0] for file in (tmp_path / "data").iterdir()} == {
            "demo",
            "demo.key",
            "pepper",
            "sandbox.db",
        }

        running.send(signal.SIGHUP)
        await until(lambda: "configuration read again" in running.err)
        assert await status(f"{dashboard_in(printed)}admin/v1/teams", token_in(printed)) == 200

        running.send(signal.SIGINT)
        assert await running.ended() == 0
        assert '"outcome":"miss"' in running.err
        assert key.partition("_")[2] not in running.err
        assert token_in(printed) not in running.err
        assert "Traceback" not in running.err
        assert "rror" not in running.err

        await running.start("serve", "--demo")
        again = await running.printed(LAST_LINE)
        assert key_in(again) == key
        assert token_in(again) == token_in(printed)
        code, out, _ = await run("sh", stdin=curl_in(again))
        assert code == 0
        assert "url" in json.decode(out)["data"][0]
        running.send(signal.SIGTERM)
        assert await running.ended() == 0


async def test_a_configured_admin_token_is_the_only_one_and_never_printed(tmp_path: Path) -> None:
    own = "an-operators-own-token"
    async with demo(tmp_path, ADMIN_TOKEN=own) as running:
        assert own not in running.out + running.err
        assert "Sign in    with your own admin token" in running.out
        assert await status(f"{dashboard_in(running.out)}admin/v1/teams", own) == 200
        assert not (tmp_path / "data" / "demo-admin.token").exists()


async def test_with_an_upstream_key_the_demo_team_has_a_daily_limit(
    tmp_path: Path,
) -> None:
    upstream = Sandbox(drawing())
    await upstream.start()
    try:
        async with demo(
            tmp_path, UPSTREAM_BASE_URL=upstream.url, UPSTREAM_API_KEY=UPSTREAM_KEY
        ) as running:
            printed = running.out
            assert "real upstream" in printed
            assert "10 a day" in printed
            statuses = []
            async with aiohttp.ClientSession() as session:
                for number in range(12):
                    async with session.post(
                        f"{base_in(printed)}/images/generations",
                        headers={"Authorization": f"Bearer {key_in(printed)}"},
                        json={"prompt": f"prompt {number}"},
                    ) as response:
                        statuses.append(response.status)
            assert statuses == [200] * 10 + [429] * 2
            assert upstream.counts.calls == 10
            assert (tmp_path / "data" / "gateway.db").exists()
            assert not (tmp_path / "data" / "sandbox.db").exists()

            # Without the upstream key it is the sandbox again, with the same team key.
            key = key_in(printed)
            running.send(signal.SIGTERM)
            assert await running.ended() == 0
        async with demo(tmp_path) as running:
            assert key_in(running.out) == key
            code, out, _ = await run("sh", stdin=curl_in(running.out))
            assert code == 0
            assert "data" in json.decode(out)
        assert upstream.counts.calls == 10
    finally:
        await upstream.stop()


async def test_the_sandbox_alone_serves_without_a_demo(tmp_path: Path) -> None:
    async with program(tmp_path) as running:
        await running.start("serve", "--sandbox")
        await running.listening()
        assert running.out == ""
        assert (tmp_path / "data" / "sandbox.db").exists()
        assert not (tmp_path / "data" / "demo.key").exists()
        running.send(signal.SIGTERM)
        assert await running.ended() == 0


# -- the parts ----------------------------------------------------------------------------------


DEMO = Team(name="demo", limits=Limits(images_per_day=7))


@pytest.mark.parametrize("real", [True, False])
def test_the_banner_has_lines_to_paste(real: bool) -> None:
    urls = ("http://127.0.0.1:8080", "http://127.0.0.1:9090")
    text = banner(*urls, "sk-gw-x_y", DEMO, None, real=real)
    assert base_in(text) == "http://127.0.0.1:8080/v1"
    words = shlex.split(curl_in(text))
    assert json.decode(words[-1])["model"] == "gpt-image-2"
    assert ("images cost money; the demo team may buy 7 a day" in text) is real
    compile(client_in(text), "banner", "exec")


PEPPER = b"0123456789abcdef"


async def test_a_key_is_created_once_and_added_to_every_store(tmp_path: Path) -> None:
    file = tmp_path / "demo.key"
    async with SqliteStore(tmp_path / "one.db") as one, SqliteStore(tmp_path / "two.db") as two:
        for store in (one, two):
            await demo_team(store.directory, real=False)
        text = await demo_key(one.directory, PEPPER, file)
        assert await demo_key(one.directory, PEPPER, file) == text
        assert await demo_key(two.directory, PEPPER, file) == text
        for store in (one, two):
            (key,) = (await store.directory.changes(0)).keys
            assert key_format.verify(text, key, PEPPER, 0) == "ok"


async def test_a_demo_team_has_a_limit_in_front_of_a_real_upstream(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "my.db") as store:
        assert not (await demo_team(store.directory, real=False)).limits
        # A store that served the sandbox is no way around the limit.
        assert (await demo_team(store.directory, real=True)).limits == Limits(images_per_day=10)
        changed = Team(name="demo", limits=Limits(images_per_day=3), max_n=1)
        await put_teams(store.directory, [changed])
        assert await demo_team(store.directory, real=True) == changed
        assert await demo_team(store.directory, real=False) == changed
        assert (await store.directory.changes(0)).teams == [changed]


async def test_a_revoked_demo_key_is_refused(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "my.db") as store:
        await demo_team(store.directory, real=False)
        id = key_format.parse(await demo_key(store.directory, PEPPER, tmp_path / "demo.key"))
        assert id is not None
        await set_state(store.directory, id, "revoked")
        with pytest.raises(StartError, match=r"is revoked\. Delete .*demo\.key to get a new one"):
            await demo_key(store.directory, PEPPER, tmp_path / "demo.key")


async def test_files_with_other_content_are_refused(tmp_path: Path) -> None:
    (tmp_path / "demo.key").write_text("my notes")
    async with SqliteStore(tmp_path / "my.db") as store:
        with pytest.raises(StartError, match="does not hold a key"):
            await demo_key(store.directory, PEPPER, tmp_path / "demo.key")
        (tmp_path / "token").write_text("my notes")
        with pytest.raises(StartError, match="does not hold an admin token"):
            demo_token(AdminSettings(), tmp_path / "token")
        (tmp_path / "folder").mkdir()
        with pytest.raises(StartError, match="cannot be used"):
            await demo_key(store.directory, PEPPER, tmp_path / "folder")
