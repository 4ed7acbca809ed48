"""The sandbox counts exactly, starts and stops, and logs nothing of its clients."""

import asyncio
import logging
import time
from urllib.parse import urlsplit

import pytest

from gateway.upstream.sandbox import Sandbox, UpstreamFault
from gateway.upstream.sandbox.state import REMEMBERED
from tests.support.sandboxed import KEY, PATH, Asker, asking, dots
from tests.support.steps import until

BODY = b'{"prompt":"CANARY-PROMPT"}'


async def connect(sandbox: Sandbox) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = urlsplit(sandbox.url).port
    return await asyncio.open_connection("127.0.0.1", port)


def request_bytes(body: bytes = BODY) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


# -- counts -------------------------------------------------------------------------------------


async def test_counts_are_exact_under_many_requests_at_once(asker: Asker) -> None:
    counts = asker.sandbox.counts
    asker.sandbox.settings.latency = 0.3
    asker.sandbox.faults.append(UpstreamFault(kind="status", status=500, times=100))
    answers = await asyncio.gather(*(asker.ask(str(number), n=2) for number in range(300)))
    assert sum(got.status == 200 for got in answers) == 200
    assert counts.numbers() == {
        "asked": 300,
        "images_asked": 600,
        "calls": 300,
        "images_drawn": 400,
        "delivered": 200,
        "images_delivered": 400,
        "in_flight": 0,
        "peak_in_flight": counts.peak_in_flight,
    }
    assert 50 < counts.peak_in_flight <= 300


async def test_requests_are_kept_unchanged(asker: Asker) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "X-Request-Id": "one", "X-Odd": "Value"}
    began = time.monotonic()
    await asker.post(data=BODY, headers=headers)
    await asker.post(data=b"junk", headers={})
    first, second = asker.sandbox.counts.requests
    assert (first.body, second.body) == (BODY, b"junk")
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert (first.headers["x-request-id"], first.headers["x-odd"]) == ("one", "Value")
    assert "authorization" not in second.headers
    assert began <= first.at <= second.at <= time.monotonic()
    assert asker.sandbox.counts.requests.maxlen == REMEMBERED == 10_000


async def test_a_call_keeps_the_settings_of_its_start(asker: Asker) -> None:
    asker.sandbox.settings.latency = 0.1
    call = asyncio.create_task(asker.ask())
    await until(lambda: asker.sandbox.counts.in_flight == 1)
    asker.sandbox.settings.answer = "url"
    assert set((await call).json["data"][0]) == {"b64_json"}


# -- starting and stopping ----------------------------------------------------------------------


async def test_a_stopped_sandbox_can_start_again_on_its_port_and_keeps_its_counts() -> None:
    sandbox = Sandbox(dots())
    async with asking(sandbox) as asker:
        assert (await asker.ask()).status == 200
        port = urlsplit(sandbox.url).port
        assert port is not None
        await sandbox.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(sandbox)
        await sandbox.start(port=port)
        assert (await asker.ask()).status == 200
    assert sandbox.counts.delivered == 2


async def test_a_port_in_use_raises_and_leaves_nothing_running(asker: Asker) -> None:
    port = urlsplit(asker.sandbox.url).port
    assert port is not None
    other = Sandbox(dots())
    with pytest.raises(OSError, match="address already in use"):
        await other.start(port=port)
    await other.start()
    await other.close()


@pytest.mark.parametrize("kind", ["latency", "hang", "slow_body", "huge"])
async def test_stopping_ends_open_calls_with_and_without_a_client(kind: str) -> None:
    sandbox = Sandbox(dots())
    async with asking(sandbox) as asker:
        if kind == "latency":
            sandbox.settings.latency = 60
        else:
            fault = {"kind": kind, "after": 60, "bytes": 2**34}
            await asker.call("POST", "/control", json={"faults": [fault]})
        connections = [await connect(sandbox) for _ in range(10)]
        for _, writer in connections:
            writer.write(request_bytes())
        await until(lambda: sandbox.counts.in_flight == 10)
        for _, writer in connections[:5]:
            writer.transport.abort()
        began = time.monotonic()
        await sandbox.close()
        assert time.monotonic() - began < 5
        assert sandbox.counts.in_flight == 0
        for _, writer in connections[5:]:
            writer.transport.abort()


# -- logs ---------------------------------------------------------------------------------------


async def test_nothing_that_a_client_sends_is_logged(
    asker: Asker, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    await asker.ask("CANARY-PROMPT")
    await asker.post(data=b"CANARY", headers={"Authorization": "CANARY"})
    await asker.call("POST", "/control", data=b"CANARY")
    for sent in (
        b"CANARY\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer CANARY\x00\r\n\r\n",
        b"GET /" + b"CANARY" * 5_000 + b" HTTP/1.1\r\n\r\n",
        f"POST {PATH} HTTP/1.1\r\nContent-Length: CANARY\r\n\r\n".encode(),
        f"POST {PATH} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nCANARY\r\n".encode(),
        request_bytes()[:-5],
    ):
        _, writer = await connect(asker.sandbox)
        writer.write(sent)
        await asyncio.sleep(0.02)
        writer.transport.abort()
    await asker.sandbox.close()
    logged = [record for record in caplog.records if record.name != "asyncio"]
    assert [record.getMessage() for record in logged] == []
    assert "CANARY" not in caplog.text
    assert KEY not in caplog.text
    assert capfd.readouterr() == ("", "")


class Broken(Sandbox):
    """A sandbox with a defect, whose text holds a secret."""

    def knows(self, authorization: str) -> bool:
        raise KeyError(authorization)


async def test_a_defect_is_logged_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    async with asking(Broken(dots())) as asker:
        assert (await asker.ask()).status == 500
    (record,) = caplog.records
    assert record.getMessage() == "the sandbox failed: KeyError"
    assert "in knows" in caplog.text
    assert KEY not in caplog.text
