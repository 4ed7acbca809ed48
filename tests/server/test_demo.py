"""`gateway serve --demo`: everything that it prints works as pasted."""

import asyncio
import random
import re
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from msgspec import json

from gateway.config.settings import AdminSettings
from gateway.core import key_format
from gateway.core.model import Limits, Team
from gateway.core.secret import Secret
from gateway.server.demo import banner, demo_key, demo_team, demo_token
from gateway.server.startup import StartError
from gateway.stores.sqlite import SqliteStore
from gateway.tenants.store import DirectoryStore
from gateway.upstream.sandbox import Sandbox
from tests.support.directory import put_teams, set_state
from tests.support.process import Program, program
from tests.support.rig import UPSTREAM_KEY
from tests.support.steps import drawing, until

LAST_LINE = "Ctrl-C stops it."


def found_in(printed: str, pattern: str) -> str:
    """The only text that matches the group in the pattern."""
    (found,) = set(re.findall(pattern, printed, re.MULTILINE))
    return str(found)


KEY = r"(sk-gw-\w+)"
TOKEN = r"^  Token +(gw-admin-[0-9a-f]{64})$"
DASHBOARD = r"^  Dashboard +(\S+/)$"
BASE = r"^  Base URL +(\S+)$"
CURL = r"^(curl .*)$"
LINK = r"^(http\S+/images/files/\S+)$"
GENERATE = r"^(gateway generate .*)$"


def client_in(printed: str) -> str:
    start, end = printed.index("from openai"), printed.index(f"\n{LAST_LINE}")
    return printed[start:end]


async def status(url: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status


async def run(*command: str, stdin: str) -> str:
    """The output of any program, which succeeds without an error message."""
    ended = await asyncio.to_thread(
        subprocess.run, command, input=stdin, capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@asynccontextmanager
async def demo(folder: Path, **environ: str) -> AsyncIterator[Program]:
    async with program(folder, **environ) as running:
        await running.start("serve", "--demo")
        await running.printed(LAST_LINE)
        yield running


async def test_everything_printed_works_as_pasted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    # Below the ports that systems give out: the next one must be free for the sandbox, both times.
    port = str(random.randrange(20_000, 30_000))
    async with demo(tmp_path, LOG_LEVEL="debug", SERVER_ADMIN_PORT=port) as running:
        printed = running.out
        curl, client = found_in(printed, CURL), client_in(printed)
        assert found_in(printed, BASE) in curl
        assert found_in(printed, BASE) in client
        assert len(client.strip().splitlines()) == 5
        assert "sandbox" in printed

        (image,) = json.decode(await run("sh", stdin=curl))["data"]
        assert b64decode(image["b64_json"]).startswith(b"\x89PNG")
        assert "characters of base64" in await run(sys.executable, "-", stdin=client)
        link = found_in(printed, LINK)
        async with aiohttp.ClientSession() as session, session.get(link) as picture:
            assert (await picture.read()).startswith(b"\x89PNG")
        line = found_in(printed, GENERATE).replace("gateway ", f"{sys.executable} -m gateway ", 1)
        assert ".png  1024x1024  " in await run(
            "sh", "-c", f"cd {tmp_path} && {line} 2>&1", stdin=""
        )

        key, token = found_in(printed, KEY), found_in(printed, TOKEN)
        assert (data / "demo.key").read_text().strip() == key
        assert data.stat().st_mode & 0o777 == 0o700
        for name in ("demo.key", "demo-admin.token"):
            assert (data / name).stat().st_mode & 0o777 == 0o600
        dashboard = found_in(printed, DASHBOARD)
        assert await status(dashboard, "") == 200
        assert await status(f"{dashboard}admin/v1/teams", token) == 200
        names = {file.name.partition("-")[0] for file in data.iterdir()}
        assert names == {"demo", "demo.key", "images", "pepper", "sandbox.db"}

        running.send(signal.SIGHUP)
        await until(lambda: "configuration read again" in running.err)
        assert await status(f"{dashboard}admin/v1/teams", token) == 200

        running.send(signal.SIGINT)
        assert await running.ended() == 0
        assert '"outcome":"miss"' in running.err
        for text in (key.partition("_")[2], token, "Traceback", "rror"):
            assert text not in running.err

        await running.start("serve", "--demo")
        again = await running.printed(LAST_LINE)
        assert (found_in(again, KEY), found_in(again, TOKEN)) == (key, token)
        assert json.decode(await run("sh", stdin=found_in(again, CURL)))["data"] == [image]
        await until(lambda: '"outcome":"hit"' in running.err)
        assert '"outcome":"miss"' not in running.err


async def test_the_sandbox_of_a_demo_can_answer_with_urls(tmp_path: Path) -> None:
    async with program(tmp_path) as running:
        await running.start("serve", "--demo", "--answer", "url")
        await running.printed(LAST_LINE)
        (image,) = json.decode(await run("sh", stdin=found_in(running.out, CURL)))["data"]
        async with aiohttp.ClientSession() as session, session.get(image["url"]) as picture:
            assert (await picture.read()).startswith(b"\x89PNG")


async def test_with_an_upstream_key_the_demo_team_has_a_daily_limit(tmp_path: Path) -> None:
    async with (
        Sandbox(drawing()) as upstream,
        demo(tmp_path, UPSTREAM_BASE_URL=upstream.url, UPSTREAM_API_KEY=UPSTREAM_KEY) as running,
    ):
        assert "real upstream" in running.out
        assert "images cost money; the demo team may buy 10 a day" in running.out
        url = found_in(running.out, BASE) + "/images/generations"
        headers = {"Authorization": f"Bearer {found_in(running.out, KEY)}"}
        statuses: list[int] = []
        async with aiohttp.ClientSession(headers=headers) as session:
            for number in (9, 1, 1):
                async with session.post(
                    url, json={"prompt": f"{len(statuses)}", "n": number}
                ) as response:
                    statuses.append(response.status)
        assert statuses == [200, 200, 429]
        assert (tmp_path / "data" / "gateway.db").exists()
        assert not (tmp_path / "data" / "sandbox.db").exists()


# -- the parts ----------------------------------------------------------------------------------


PEPPER = b"0123456789abcdef"


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    async with SqliteStore(tmp_path / "my.db") as store:
        yield store.directory


async def test_a_key_is_created_once_and_added_to_every_store(tmp_path: Path) -> None:
    texts = set()
    async with SqliteStore(tmp_path / "my.db") as one, SqliteStore(tmp_path / "other.db") as other:
        for store in (one, one, other):
            await demo_team(store.directory, real=False)
            text = await demo_key(store.directory, PEPPER, tmp_path / "demo.key")
            (key,) = (await store.directory.changes(0)).keys
            assert key_format.verify(text, key, PEPPER, 0) == "ok"
            audit = await store.audit.entries(None, None, None)
            assert [(entry.action, entry.who, entry.team, entry.key) for entry in audit] == [
                ("key.create", "gateway serve --demo", "demo", f"sk-gw-{key.id}"),
                ("team.create", "gateway serve --demo", "demo", None),
            ]
            texts.add(text)
    assert len(texts) == 1


async def test_a_demo_team_has_a_limit_in_front_of_a_real_upstream(
    directory: DirectoryStore,
) -> None:
    assert not (await demo_team(directory, real=False)).limits
    # A store that served the sandbox is no way around the limit.
    assert (await demo_team(directory, real=True)).limits == Limits(images_per_day=10)
    changed = Team(name="demo", limits=Limits(images_per_day=3), max_n=1)
    await put_teams(directory, [changed])
    for real in (True, False):
        assert await demo_team(directory, real=real) == changed
    assert (await directory.changes(0)).teams == [changed]
    await put_teams(directory, [Team(name="demo", deleted=True)])
    assert await demo_team(directory, real=False) == Team(name="demo")
    assert (await directory.changes(0)).teams == [Team(name="demo")]


async def test_a_revoked_demo_key_is_refused(tmp_path: Path, directory: DirectoryStore) -> None:
    await demo_team(directory, real=False)
    id = key_format.parse(await demo_key(directory, PEPPER, tmp_path / "demo.key"))
    assert id is not None
    await set_state(directory, id, "revoked")
    with pytest.raises(StartError, match=r"is revoked\. Delete .*demo\.key to get a new one"):
        await demo_key(directory, PEPPER, tmp_path / "demo.key")


async def test_files_with_other_content_are_refused(
    tmp_path: Path, directory: DirectoryStore
) -> None:
    (tmp_path / "notes").write_text("my notes")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StartError, match="does not hold a key"):
        await demo_key(directory, PEPPER, tmp_path / "notes")
    with pytest.raises(StartError, match="cannot be used: Is a directory"):
        await demo_key(directory, PEPPER, tmp_path / "folder")
    with pytest.raises(StartError, match="does not hold an admin token"):
        demo_token(AdminSettings(), tmp_path / "notes")


def test_a_configured_admin_token_is_the_only_one_and_never_printed(tmp_path: Path) -> None:
    admin, file = AdminSettings(token=Secret("an-operators-own-token")), tmp_path / "token"
    assert demo_token(admin, file) == (admin, None)
    assert not file.exists()
    text = banner("http://h", "http://a", "sk-gw-x", Team(name="demo"), None, real=False)
    assert "Sign in    with your own admin token" in text
