"""`gateway generate`: pictures through a running gateway, into files."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from click.testing import Result

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.line import Line
from tests.support.rig import Rig, running_rig
from tests.support.steps import until, until_asked

PROMPT = "A simple red apple"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    folder = tmp_path / "gateway"
    folder.mkdir()
    # A purchase that a test leaves behind is cancelled, not waited for.
    async with running_rig(folder, SERVER_DRAIN_SECONDS="0") as running:
        yield running


async def generate(line: Line, rig: Rig, key: str, *arguments: str) -> Result:
    return await asyncio.to_thread(
        line.click, "generate", PROMPT, "--url", rig.gateway.url, *arguments, GATEWAY_KEY=key
    )


async def test_a_picture_is_bought_once_and_written_into_a_file(line: Line, rig: Rig) -> None:
    key = await rig.key()
    bought = await generate(line, rig, key)
    assert bought.exit_code == 0, bought.output
    assert bought.stdout.startswith("a-simple-red-apple.png  1024x1024  ")
    assert "bought. Request id: " in bought.stderr
    assert bought.stderr.startswith("$0.")
    picture = (line.folder / "a-simple-red-apple.png").read_bytes()
    assert picture.startswith(PNG)
    again = await generate(line, rig, key, "-o", "apple.png")
    assert again.exit_code == 0, again.output
    assert "saved $0.053, from the cache, not bought" in again.stderr
    assert (line.folder / "apple.png").read_bytes() == picture
    assert rig.sandbox.counts.images_drawn == 1
    fresh = await generate(line, rig, key, "--fresh")
    assert "bought." in fresh.stderr
    assert fresh.stdout.startswith("a-simple-red-apple-2.png ")  # the first one is not replaced
    assert rig.sandbox.counts.images_drawn == 2


async def test_several_pictures_get_numbers_and_options_are_passed_on(line: Line, rig: Rig) -> None:
    key = await rig.key()
    done = await generate(line, rig, key, "--n", "2", "-o", "a.png", "--size", "1536x1024")
    assert done.exit_code == 0, done.output
    assert [text.split("  ")[:2] for text in done.stdout.splitlines()] == [
        ["a-1.png", "1536x1024"],
        ["a-2.png", "1536x1024"],
    ]
    unnamed = await generate(line, rig, key, "--n", "2", "--quality", "low")
    names = [text.split()[0] for text in unnamed.stdout.splitlines()]
    assert names == ["a-simple-red-apple.png", "a-simple-red-apple-2.png"]
    assert all((line.folder / name).read_bytes().startswith(PNG) for name in names)


async def test_refusals_and_failures_are_one_line(line: Line, rig: Rig) -> None:
    key = await rig.key(limits=Limits(images_per_day=1))
    rig.sandbox.faults.append(UpstreamFault(kind="cut_in_body"))
    cut = await generate(line, rig, key)
    repeated = await generate(line, rig, key)
    refused = await generate(line, rig, key, "--size", "1536x1024")
    unknown = await generate(line, rig, "sk-gw-nobody")
    words = await generate(line, rig, key, "--size", "huge")
    for failed, text in (
        (cut, "Error: "),
        (repeated, " The option --fresh sends that."),
        (refused, "images_per_day"),
        (unknown, "The key came from GATEWAY_KEY."),
        (words, "size must be"),
    ):
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert text in failed.stderr
        assert len(failed.stderr.splitlines()) == 1
    assert list(line.folder.glob("*.png")) == []


async def test_nothing_is_bought_for_a_file_that_cannot_be_written(line: Line, rig: Rig) -> None:
    key = await rig.key()
    (line.folder / "file").touch()
    for name in ("none/a.png", "file/a.png"):
        done = await generate(line, rig, key, "-o", name)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "Nothing was asked for." in done.stderr
    assert rig.sandbox.counts.asked == 0
    full = await generate(line, rig, key, "-o", "/dev/full")
    assert (full.exit_code, full.stdout) == (1, "")
    assert "bought. Request id: " in full.stderr
    assert "Cannot write /dev/full: No space left on device. The same command" in full.stderr


async def test_a_name_that_does_not_fit_the_picture_is_said(line: Line, rig: Rig) -> None:
    key = await rig.key()
    for name, said in (("a.jpg", "a.jpg holds a png picture"), ("a.PNG", ""), ("a.b", "")):
        done = await generate(line, rig, key, "-o", name)
        assert (line.folder / name).read_bytes().startswith(PNG)
        assert said in done.stderr
        assert ("holds" in done.stderr) == bool(said)


@pytest.mark.parametrize(
    ("options", "said_at_the_end"),
    [([], "The same command again"), (["--async"], "its answer is at http://")],
)
async def test_to_interrupt_it_says_that_the_purchase_may_go_on(
    line: Line, rig: Rig, options: list[str], said_at_the_end: str
) -> None:
    rig.sandbox.settings.latency = 300.0  # no picture comes before the signal has its effect
    line.environ["GATEWAY_KEY"] = await rig.key()
    process = line.start("generate", PROMPT, "--url", rig.gateway.url, *options)
    try:
        await until_asked(rig, 1)
        if options:  # until it has the place of the answer
            await until(lambda: polls(rig) > 0)
        process.send_signal(signal.SIGINT)
        said = (await asyncio.to_thread(process.communicate, timeout=60))[1]
    finally:
        process.kill()
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "may go on and buy the picture." in said
    assert said_at_the_end in said


def test_without_a_gateway_or_a_key_it_says_what_to_do(line: Line) -> None:
    free = "http://127.0.0.1:9"
    alone = line.click("generate", PROMPT, "--url", free, GATEWAY_KEY="sk-gw-a")
    assert (alone.exit_code, alone.stdout) == (1, "")
    assert "gateway serve --demo" in alone.stderr
    keyless = line.click("generate", PROMPT, "--url", free)
    assert "There is no key in data/demo.key. Set GATEWAY_KEY" in keyless.stderr
    (line.folder / "key").write_text("two words\n")
    odd = line.click("generate", PROMPT, "--url", free, "--key-file", "key")
    assert "does not hold a key" in odd.stderr
    for url in ("ftp://x", "http://["):
        wrong = line.click("generate", PROMPT, "--url", url, GATEWAY_KEY="k")
        assert wrong.exit_code == 2
        assert "--url must be a URL" in wrong.stderr


async def test_a_new_file_is_not_written_through_a_link(line: Line, rig: Rig) -> None:
    (line.folder / "a-simple-red-apple.png").symlink_to("elsewhere.png")
    done = await generate(line, rig, await rig.key())
    assert done.stdout.startswith("a-simple-red-apple-2.png ")
    assert not (line.folder / "elsewhere.png").exists()


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, {"data": [{"url": "https://h/\x1b]0;owned\x07"}], "size": "\x1b[2J"}),
        (200, {"data": [{"b64_json": "aGVsbG8="}], "size": "\x1b]0;owned\x07"}),
        (400, {"error": {"message": "\x1b]0;owned\x07"}}),
    ],
)
async def test_no_answer_controls_the_terminal(
    line: Line, status: int, answer: dict[str, Any]
) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.json_response(answer, status=status)

    async with RawTestServer(handle) as server:
        shown = await asyncio.to_thread(
            line.click, "generate", PROMPT, "--url", str(server.make_url("/")), GATEWAY_KEY="k"
        )
    assert shown.exit_code == (status != 200)
    assert r"\x1b]0;owned\x07" in shown.output
    assert "\x1b" not in shown.output


async def test_a_terminal_shows_that_time_passes(line: Line, rig: Rig) -> None:
    line.environ["GATEWAY_KEY"] = await rig.key()
    rig.sandbox.settings.latency = 0.5
    command = ("generate", PROMPT, "--url", rig.gateway.url)
    shown = await asyncio.to_thread(line.show, *command)
    assert "Drawing" in shown
    assert "0:00:0" in shown


async def test_a_connection_that_is_cut_may_have_cost_something(line: Line) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.transport.abort()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        environ = {"GATEWAY_KEY": "sk-gw-a"}
        done = await asyncio.to_thread(line.click, "generate", PROMPT, "--url", url, **environ)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "The picture may have been bought" in done.stderr


# -- asking later ---------------------------------------------------------------------------------


def polls(rig: Rig) -> float:
    return (
        rig.gateway.metrics.registry.get_sample_value(
            "gateway_requests_total", {"team": "team", "outcome": "polled"}
        )
        or 0.0
    )


async def test_a_picture_is_asked_for_until_it_is_there(line: Line, rig: Rig) -> None:
    key = await rig.key()
    rig.sandbox.settings.latency = 1.5
    bought = await generate(line, rig, key, "--async")
    assert bought.exit_code == 0, bought.output
    assert bought.stdout.startswith("a-simple-red-apple.png  1024x1024  ")
    assert "'gateway activity --id' shows what it cost" in bought.stderr
    hit = await generate(line, rig, key, "--async")
    assert "from the cache, not bought" in hit.stderr
    rig.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=1)
    failed = await generate(line, rig, key, "--async", "--fresh")
    assert failed.exit_code == 1
    assert "The upstream's response was cut off" in failed.stderr
    assert rig.sandbox.counts.asked == 2


class Away:
    """A gateway that answers 202, then nothing twice, and then with a picture."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked.append((request.method, request.rel_url.raw_path))
        match len(self.asked):
            case 1:
                return web.json_response({"id": "a/b", "status": "running"}, status=202)
            case 2:
                return web.json_response({}, status=503, headers={"Retry-After": "1"})
            case 3:
                assert request.transport is not None
                request.transport.abort()
        return web.json_response({"data": [{"b64_json": "iVBORw0KGgo="}]})


async def test_a_gateway_that_is_away_for_a_moment_is_asked_again(line: Line) -> None:
    away = Away()
    async with RawTestServer(away.answer) as server:
        url = str(server.make_url("/proxy"))
        done = await asyncio.to_thread(
            line.click, "generate", PROMPT, "--url", url, "--async", GATEWAY_KEY="sk-gw-key"
        )
    assert done.exit_code == 0, done.output
    place = "/proxy/v1/images/generations"
    assert away.asked == [("POST", place), *[("GET", f"{place}/a%2Fb")] * 3]
