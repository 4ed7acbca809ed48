"""Answers as streams: sent at once, or begun before the answer is there and kept alive until then.

The heartbeat is shortened to hundredths of a second.
"""

import asyncio
import gc
import socket
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import json
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from gateway.web.streams import MAX_WAITING_BYTES, EventStream
from tests.support.events import COMMENT, events_of
from tests.support.raw import RawAnswer, ask, request_bytes, wire
from tests.support.rig import FLAT, PROMPT, Got, Rig, running_rig
from tests.support.steps import metric, until

BEAT = 0.03
LATE = 0.3
"""How long the upstream draws where the head is to go out before."""

STREAM = "text/event-stream"
APP = "https://app.example.com"


@pytest.fixture
def late(rig: Rig) -> Rig:
    """A gateway whose answers come after the head."""
    slow(rig)
    return rig


def slow(rig: Rig) -> None:
    rig.gateway.public.beat_seconds = BEAT
    rig.sandbox.settings.latency = LATE


def stream_bytes(key: str, version: str = "1.1", headers: str = "") -> bytes:
    body = json.encode({"prompt": PROMPT, "stream": True})
    return request_bytes(key, body=body, version=version, headers=headers)


def pictures(got: Got | RawAnswer) -> list[str]:
    """The pictures of a stream that must have come whole and without an error."""
    assert got.status == 200, got.body
    events = events_of(got.body)
    assert {event["type"] for event in events} == {"image_generation.completed"}
    return [event["b64_json"] for event in events]


def begun(headers: Mapping[str, str]) -> bool:
    """Whether the head of a stream went out before its answer."""
    assert headers["Content-Type"] == STREAM
    assert headers["Cache-Control"] == "no-cache, no-transform"
    assert headers["X-Accel-Buffering"] == "no"
    told = {"Cache-Status", "x-gateway-cost-usd", "x-gateway-saved-usd", "Content-Length"}
    assert len(told & {*headers}) in (0, len(told))
    return "Cache-Status" not in headers


# -- the answer comes first ---------------------------------------------------------------------


async def test_a_stream_buys_and_replays_the_picture_of_a_plain_request(rig: Rig) -> None:
    key = await rig.key()
    bought = await rig.generate(key, stream=True, partial_images=2, n=2)
    assert not begun(bought.headers)
    assert bought.headers["Cache-Status"] == "gateway; fwd=miss; stored"
    assert bought.headers["x-gateway-cost-usd"] == "0.106"
    sent = json.decode(rig.sandbox.counts.requests[0].body)
    assert not {"stream", "partial_images"} & sent.keys()
    plain = await rig.generate(key, n=2)
    assert plain.headers["Cache-Status"] == "gateway; hit"
    assert [item["b64_json"] for item in plain.json["data"]] == pictures(bought)
    again = await rig.generate(key, stream=True, partial_images=0, n=2)
    assert again.headers["Cache-Status"] == "gateway; hit"
    assert "Age" in again.headers
    assert pictures(again) == pictures(bought)
    assert COMMENT not in bought.body + again.body
    assert rig.sandbox.counts.images_drawn == (await rig.usage()).images_bought == 2


async def test_streams_and_plain_requests_share_a_purchase(late: Rig) -> None:
    key = await late.key()
    asked = [late.generate(key, stream=stream) for stream in (True, False, True, None)]
    first, plain, other, null = await asyncio.gather(*asked)
    assert pictures(first) == pictures(other) == [plain.json["data"][0]["b64_json"]]
    assert null.body == plain.body
    assert late.sandbox.counts.images_drawn == 1


async def test_one_name_has_one_answer_with_and_without_a_stream(late: Rig) -> None:
    key, name = await late.key(cache=False), {"Idempotency-Key": "one"}
    streamed = await late.generate(key, headers=name, stream=True)
    assert begun(streamed.headers)
    plain = await late.generate(key, headers=name)
    again = await late.generate(key, headers=name, stream=True)
    assert pictures(streamed) == pictures(again) == [plain.json["data"][0]["b64_json"]]
    assert late.sandbox.counts.asked == 1


@pytest.mark.parametrize(
    ("answer", "deliver", "fields", "has_url"),
    [
        ("b64_json", None, {}, False),
        ("b64_json", "url", {}, True),
        ("b64_json", None, {"response_format": "url"}, True),
        ("b64_json", "both", {"response_format": "b64_json"}, False),
        ("url", None, {}, True),
        ("url", "upstream", {}, True),
    ],
)
async def test_every_form_of_a_stream_has_base64(
    rig: Rig, answer: str, deliver: str | None, fields: dict[str, str], has_url: bool
) -> None:
    rig.sandbox.settings.answer = answer  # type: ignore[assignment]
    got = await rig.generate(await rig.key(deliver=deliver), stream=True, **fields)
    (event,) = events_of(got.body)
    assert event["b64_json"]
    assert ("url" in event) == has_url
    if has_url:
        assert (await rig.session.get(event["url"])).status == 200


async def test_no_comment_comes_into_an_answer_that_is_being_sent(rig: Rig) -> None:
    """Its reader takes longer than the heartbeat."""
    large = {"created": 1, "data": [{"b64_json": "A" * 16_000_000}]}
    rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=json.encode(large).decode())
    key = await rig.key()
    assert pictures(await rig.generate(key, stream=True)) == ["A" * 16_000_000]
    rig.gateway.public.beat_seconds = 0.3
    async with wire(rig.url) as connection:
        await connection.send(stream_bytes(key))
        await asyncio.sleep(0.8)
        assert pictures(await connection.answer(seconds=30)) == ["A" * 16_000_000]


async def test_a_refusal_keeps_its_status(late: Rig) -> None:
    key = await late.key(limits=Limits(images_per_day=1), max_n=1)
    asked: tuple[tuple[dict[str, Any], tuple[int, str, str]], ...] = (
        ({"stream": "yes"}, (400, "invalid_request_error", "invalid_type")),
        ({"partial_images": 4}, (400, "invalid_request_error", "integer_above_max_value")),
        ({"n": 2}, (403, "permission_error", "n_not_allowed")),
    )
    for fields, error in asked:
        assert (await late.generate(key, **{"stream": True, **fields})).error == error
    late.sandbox.settings.latency = 0
    late.gateway.public.beat_seconds = 60
    late.sandbox.fault = UpstreamFault(kind="status", status=400)
    assert (await late.generate(key, stream=True)).error[0] == 400
    assert (await late.usage()).images_bought == 0


# -- the head goes first ------------------------------------------------------------------------


async def test_a_late_answer_is_kept_alive(late: Rig) -> None:
    key = await late.key()
    async with late.session.post(
        f"{late.url}/v1/images/generations",
        json={"prompt": PROMPT, "stream": True},
        headers={"Authorization": f"Bearer {key}", "X-Request-Id": "mine"},
    ) as response:
        assert late.sandbox.counts.delivered == 0, "the head comes before the answer"
        assert begun(response.headers)
        assert response.headers["X-Request-Id"] == "mine"
        got = await Got.read(response)
    assert got.body.startswith(COMMENT * 2)
    assert len(pictures(got)) == 1
    assert pictures(await late.generate(key, stream=True)) == pictures(got)
    await late.assert_books(1, 53_000)


async def test_an_error_after_the_head_is_an_event_and_is_recorded_as_that_error(late: Rig) -> None:
    late.sandbox.fault = UpstreamFault(kind="cut_in_body", times=1)
    key = await late.key(cache=False)
    with capture_logs() as lines:
        got = await late.generate(key, stream=True)
    assert begun(got.headers)
    (event,) = events_of(got.body)
    assert event["error"]["code"] == "upstream_cut"
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["status"], line["code"], line["images"]) == (502, "upstream_cut", 1)
    assert await metric(late, "gateway_requests_total", outcome="upstream_cut") == 1
    assert (await late.generate(key, stream=True)).error[2] == "upstream_cut", "it is a repeat"
    assert late.sandbox.counts.images_drawn == (await late.usage()).images_unknown == 1


async def test_a_refusal_of_the_upstream_after_the_head_is_its_own(late: Rig) -> None:
    late.sandbox.fault = UpstreamFault(kind="status", status=400)
    got = await late.generate(await late.key(), stream=True)
    (event,) = events_of(got.body)
    assert event["error"]["code"] == "moderation_blocked"
    assert (await late.usage()).images_bought == 0


async def test_an_old_client_reads_until_the_end_of_the_connection(late: Rig) -> None:
    key = await late.key()
    headers = "Connection: keep-alive\r\n"
    async with wire(late.url) as connection:
        await connection.send(stream_bytes(key, "1.0", headers))
        answer = await connection.answer(head_only=True)
        assert "transfer-encoding" not in answer.headers
        whole = RawAnswer(answer.status, answer.headers, await connection.rest())
    assert len(pictures(whole)) == 1


async def test_the_connection_stays_for_the_next_request(late: Rig) -> None:
    key = await late.key()
    async with wire(late.url) as connection:
        for _ in range(2):
            await connection.send(stream_bytes(key))
            assert len(pictures(await connection.answer())) == 1


async def test_pages_of_other_origins_read_it(tmp_path: Path) -> None:
    async with running_rig(tmp_path, SERVER_ALLOWED_ORIGINS=f'["{APP}"]') as rig:
        slow(rig)
        answer = await ask(rig.url, stream_bytes(await rig.key(), headers=f"Origin: {APP}\r\n"))
        assert len(pictures(answer)) == 1
        assert answer.headers["access-control-allow-origin"] == APP
        assert "x-gateway-cost-usd" not in answer.headers


# -- clients that leave, and gateways that stop -------------------------------------------------


async def test_a_client_that_leaves_loses_nothing(late: Rig) -> None:
    """Without a cache: the next equal request takes the purchase over."""
    key = await late.key(cache=False)
    async with wire(late.url) as connection:
        await connection.send(stream_bytes(key))
        await connection.answer(head_only=True)
    await until(lambda: late.gateway.proxy.in_flight == 0)
    with capture_logs() as lines:
        got = await late.generate(key, stream=True)
    assert len(pictures(got)) == 1
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["outcome"], line["status"]) == ("collapsed", 200)
    await late.assert_books(1, 53_000)


async def test_a_stream_that_is_not_read_is_cut_and_loses_nothing(late: Rig) -> None:
    key, settings = await late.key(cache=False), late.gateway.settings
    late.gateway.use(replace(settings, server=replace(settings.server, unread_seconds=0.3)))
    large = {"created": 1, "data": [{"b64_json": "A" * 16_000_000}]}
    late.sandbox.fault = UpstreamFault(kind="status", status=200, body=json.encode(large).decode())
    host, port = late.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as unread:
        unread.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(unread, stream_bytes(key))

        async def is_cut() -> bool:
            return await metric(late, "gateway_requests_total", outcome="miss") == 1

        await until(is_cut)
    assert pictures(await late.generate(key, stream=True)) == ["A" * 16_000_000]
    assert late.sandbox.counts.asked == 1


async def test_partial_images_for_a_client_that_does_not_read_leave_nothing(
    tmp_path: Path,
) -> None:
    """The newest few wait, the others are dropped, and the end leaves no garbage to collect."""
    async with running_rig(tmp_path, FLAT, SERVER_UNREAD_SECONDS="1") as rig:
        key, gone = await rig.key(cache=False), []
        kept: list[int] = []
        rig.gateway.public.beat_seconds = BEAT
        rig.sandbox.settings.latency = 0.5
        host, port = rig.url.removeprefix("http://").split(":")

        def streams() -> list[EventStream]:
            return [each for each in gc.get_objects() if isinstance(each, EventStream)]

        gc.collect()
        gc.disable()
        try:
            with socket.create_connection((host, int(port))) as unread:
                unread.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(unread, stream_bytes(key))
                await until(lambda: rig.sandbox.counts.in_flight == 1)
                (stream,) = streams()
                for _ in range(20):
                    stream.pass_on(b"x" * 4_000_000)
                kept.append(sum(map(len, stream._waiting)))
                gone.append(weakref.ref(stream))
                del stream
                await until(lambda: not rig.gateway.proxy.in_flight)
                await until(lambda: gone[0]() is None)
        finally:
            gc.enable()
        assert kept[0] <= MAX_WAITING_BYTES


async def test_a_drain_delivers_the_streams_under_way(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, SERVER_DRAIN_NOTICE_SECONDS="0") as rig:
        slow(rig)
        key = await rig.key()
        asking = asyncio.create_task(ask(rig.url, stream_bytes(key)))
        await until(lambda: rig.sandbox.counts.in_flight == 1)
        await rig.gateway.stop()
        assert len(pictures(await asking)) == 1
