"""The sandbox follows the API, counts exactly, starts and stops, and logs nothing of clients."""

import asyncio
import base64
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.upstream.sandbox import Sandbox, SandboxSettings, UpstreamFault
from tests.support.clocks import Clock
from tests.support.events import events_of
from tests.support.png import read_png
from tests.support.sandboxed import KEY, PATH, PROMPT, Asker, asking, dots, images
from tests.support.steps import until

ZERO = Sandbox().counts.numbers()


def drawn(**settings: Any) -> Sandbox:
    return Sandbox(SandboxSettings(api_key=KEY, **settings))


BODY = b'{"prompt":"CANARY-PROMPT"}'


async def connect(sandbox: Sandbox) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = urlsplit(sandbox.url).port
    return await asyncio.open_connection("127.0.0.1", port)


def request_bytes(body: bytes = BODY) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def test_all_addresses_have_the_same_port() -> None:
    sandbox = drawn()
    await sandbox.start("::")
    try:
        for host in ("127.0.0.1", "::1"):
            _, writer = await asyncio.open_connection(host, urlsplit(sandbox.url).port)
            writer.close()
            await writer.wait_closed()
    finally:
        await sandbox.close()


# -- responses ----------------------------------------------------------------------------------


async def test_a_response_has_the_images_and_their_description() -> None:
    async with asking(drawn()) as asker:
        got = await asker.ask(size="1536x1024", n=2, quality="high", background="transparent")
        again, other = await asker.ask(size="1536x1024"), await asker.ask(PROMPT + ".")
        asker.sandbox.settings.picture = "dot"
        dot, other_dot = await asker.ask(size="1536x1024"), await asker.ask("b")
    assert got.status == 200
    assert got.headers["Content-Type"] == "application/json"
    answer = got.json
    pictures = images(got)
    assert [(png.width, png.height) for png in map(read_png, pictures)] == [(1536, 1024)] * 2
    assert images(again) == pictures[:1] != pictures[1:] != images(other)
    assert images(dot) == images(other_dot) != images(again)
    assert {**dot.json, "created": 0, "data": 0} == {**again.json, "created": 0, "data": 0}
    assert abs(answer.pop("created") - time.time()) < 60
    assert [set(image) for image in answer.pop("data")] == [{"b64_json"}] * 2
    assert answer == {
        "background": "transparent",
        "output_format": "png",
        "quality": "high",
        "size": "1536x1024",
        "usage": {
            "input_tokens": 12,
            "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
            "output_tokens": 14_048,
            "output_tokens_details": {"image_tokens": 14_048, "text_tokens": 0},
            "total_tokens": 14_060,
        },
    }


@pytest.mark.parametrize("value", [None, "auto"])
async def test_absent_and_auto_fields_get_defaults(asker: Asker, value: str | None) -> None:
    got = await asker.ask(size=value, quality=value, background=value, n=None)
    named = {name: got.json[name] for name in ("size", "quality", "background", "output_format")}
    assert named == {
        "size": "1024x1024",
        "quality": "medium",
        "background": "opaque",
        "output_format": "png",
    }
    assert len(got.json["data"]) == 1
    least = await asker.post(json={"prompt": PROMPT})
    assert {**least.json, "created": 0} == {**got.json, "created": 0}


async def test_further_fields_are_accepted(asker: Asker) -> None:
    got = await asker.ask(user="me", moderation=None, seed=[1, {"a": "b"}], output_format="webp")
    assert (got.status, got.json["output_format"]) == (200, "webp")


async def test_a_stream_has_partial_images_and_the_usage_of_each_picture(asker: Asker) -> None:
    asker.sandbox.settings.picture = "drawn"
    plain = await asker.ask(n=2, partial_images=3)
    got = await asker.ask(n=2, stream=True, partial_images=1)
    assert got.headers["Content-Type"] == "text/event-stream"
    first, one, second, two = events_of(got.body)
    for partial, completed in ((first, one), (second, two)):
        assert partial["type"] == "image_generation.partial_image"
        assert partial["partial_image_index"] == 0
        assert partial["b64_json"] != completed["b64_json"]
        assert read_png(base64.b64decode(partial["b64_json"])).width == 1024
        assert {"created_at", "size", "quality", "background", "output_format"} <= partial.keys()
    assert [item["b64_json"] for item in plain.json["data"]] == [one["b64_json"], two["b64_json"]]
    usage = plain.json["usage"]
    for name, partials in (("input_tokens", 0), ("output_tokens", 2), ("total_tokens", 2)):
        assert one["usage"][name] + two["usage"][name] == usage[name] + 100 * partials
    assert asker.sandbox.counts.images_delivered == 4


async def test_partial_images_come_during_the_latency(asker: Asker) -> None:
    asker.sandbox.settings.latency = 1.0
    body = {"prompt": PROMPT, "stream": True, "partial_images": 1}
    headers = {"Authorization": f"Bearer {KEY}"}
    url = asker.sandbox.url + PATH
    async with asker.session.post(url, json=body, headers=headers) as response:
        await response.content.readuntil(b"\n\n")
        assert asker.sandbox.counts.in_flight == 1
        (last,) = events_of(await response.content.read())
    assert last["type"] == "image_generation.completed"


async def test_tokens_cost_no_more_than_the_price_table(asker: Asker) -> None:
    for quality, price in (("low", 0.006), ("medium", 0.053), ("high", 0.211)):
        for size in ("1024x1024", "1024x1536", "1536x1024", "3840x2160", "1408x480"):
            width, height = map(int, size.split("x"))
            usage = (await asker.ask("a", size=size, quality=quality)).json["usage"]
            assert 0 < usage["output_tokens"] * 30e-6 <= price * max(1, width * height / 1024**2)
            assert usage["input_tokens"] == 1


# -- refusals -----------------------------------------------------------------------------------


async def test_a_refusal_is_counted_and_costs_nothing(asker: Asker) -> None:
    got = await asker.ask(n=11)
    assert got.error == (400, "invalid_request_error", "integer_above_max_value")
    assert got.json["error"]["param"] == "n"
    assert asker.sandbox.counts.numbers() == {**ZERO, "asked": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
    ],
)
async def test_a_wrong_key_is_refused_and_counted(asker: Asker, headers: dict[str, str]) -> None:
    got = await asker.post(json={"prompt": PROMPT}, headers=headers)
    assert got.error == (401, "invalid_request_error", "invalid_api_key")
    assert got.json["error"]["param"] is None
    assert KEY.encode() not in got.body
    assert (await asker.call("GET", "/api/v1/models", headers=headers)).status == 401
    assert asker.sandbox.counts.numbers() == {**ZERO, "asked": 1}


async def test_without_its_own_key_it_accepts_any_key_but_not_a_missing_one() -> None:
    async with asking(Sandbox(dots(api_key=None))) as asker:
        body = {"prompt": PROMPT}
        headers = {"Authorization": "bearer anything at all"}
        assert (await asker.post(json=body, headers=headers)).status == 200
        assert (await asker.post(json=body, headers={})).status == 401


async def test_the_models_are_listed(asker: Asker) -> None:
    got = await asker.call("GET", "/api/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    assert got.json["object"] == "list"
    assert [model["id"] for model in got.json["data"]] == ["gpt-image-2"]
    assert asker.sandbox.counts.asked == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", PATH), ("POST", PATH + "/"), ("POST", PATH[4:]), ("DELETE", "/"), ("GET", "/files")],
)
async def test_other_routes_are_not_found(asker: Asker, method: str, path: str) -> None:
    got = await asker.call(method, path)
    assert got.error == (404, "invalid_request_error", "not_found")


# -- pictures by URL ----------------------------------------------------------------------------


async def test_an_answer_by_url_links_the_picture() -> None:
    async with asking(drawn(answer="both")) as asker:
        both = await asker.ask(n=2)
        asker.sandbox.settings.answer = "url"
        by_url = await asker.ask(n=2)
        for image, link, picture in zip(
            both.json["data"], by_url.json["data"], images(both), strict=True
        ):
            assert set(image) == {"b64_json", "url"}
            assert set(link) == {"url"}
            for url in (image["url"], link["url"]):
                got = await asker.fetch(url)
                assert (got.status, got.headers["Content-Type"]) == (200, "image/png")
                assert got.body == picture
    assert asker.sandbox.counts.images_delivered == 4


async def test_a_url_names_its_expiry_and_then_expires() -> None:
    clock = Clock(time.time)
    async with asking(Sandbox(dots(answer="url", url_ttl=90), clock=clock)) as asker:
        url = (await asker.ask()).json["data"][0]["url"]
        assert url.startswith(f"{asker.sandbox.url}/files/")
        (end,) = parse_qs(urlsplit(url).query)["se"]
        until = datetime.strptime(end, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        left = until - datetime.now(UTC)
        assert timedelta(seconds=85) < left <= timedelta(seconds=91)
        assert (await asker.fetch(url)).status == 200
        clock.ahead = 80
        assert (await asker.fetch(url)).status == 200
        clock.ahead = 92
        assert (await asker.fetch(url)).status == 403


async def test_a_url_cannot_be_changed(asker: Asker) -> None:
    asker.sandbox.settings.answer = "url"
    url = (await asker.ask()).json["data"][0]["url"]
    year = datetime.now(UTC).strftime("%Y-")
    assert PROMPT.lower() not in url.lower()
    assert KEY not in url
    for changed in (
        url.replace("1024x1024", "2048x2048"),
        url.replace(f"se={year}", "se=2999-"),
        url.replace("&sig=", "&sig=0"),
        url.partition("&")[0],
        url.partition("?")[0],
        f"{asker.sandbox.url}/files/x.png?se=x&sig=%C3%A9",
    ):
        assert changed != url
        assert (await asker.fetch(changed)).status == 403


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
