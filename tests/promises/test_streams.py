"""Streams of the upstream, passed on to the client that buys: what it sees, and what is charged."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from gateway.upstream.sandbox import UpstreamFault
from tests.support.events import events_of
from tests.support.rig import FLAT, PRICE, PROMPT, Got, Rig, running_rig
from tests.support.steps import metric, until

PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"

TOKENS = """
[models."gpt-image-2"]
billing = "tokens"
prices = 0.04
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path, FLAT, UPSTREAM_STREAM="true") as running:
        yield running


def kinds(got: Got) -> list[str]:
    """The types of a stream's events; an error is its code."""
    assert got.status == 200, got.body
    assert got.headers["Content-Type"] == "text/event-stream"
    found = events_of(got.body)
    return [event["type"] if "type" in event else event["error"]["code"] for event in found]


def sent(rig: Rig) -> list[dict[str, Any]]:
    return [json.loads(received.body) for received in rig.sandbox.counts.requests]


def event(kind: str) -> str:
    return f'event: {kind}\ndata: {{"type":"{kind}","b64_json":"QUJD"}}\n\n'


def streamed(*events: str, kind: str = "text/event-stream") -> UpstreamFault:
    """An upstream that answers with these events."""
    headers = {"Content-Type": kind}
    return UpstreamFault(kind="status", status=200, body="".join(events), headers=headers)


@asynccontextmanager
async def reading(
    rig: Rig, key: str, prompt: str = PROMPT, **fields: Any
) -> AsyncIterator[aiohttp.StreamReader]:
    """A stream of which the head has come."""
    body = {"prompt": prompt, "stream": True, "partial_images": 1, **fields}
    url, headers = f"{rig.url}/v1/images/generations", {"Authorization": f"Bearer {key}"}
    async with rig.session.post(url, json=body, headers=headers) as response:
        assert response.status == 200
        yield response.content


async def test_partial_images_come_while_the_picture_is_drawn(rig: Rig) -> None:
    rig.sandbox.settings.latency = 2.0
    key = await rig.key()
    async with reading(rig, key) as content:
        first = await content.readuntil(b"\n\n")
        assert rig.sandbox.counts.in_flight == 1
        (partial,) = events_of(first)
        assert (await rig.account()).holds
        rest = await content.read()
    (completed,) = events_of(rest)
    assert (partial["type"], partial["partial_image_index"]) == (PARTIAL, 0)
    assert completed["type"] == COMPLETED
    assert completed["usage"]["output_tokens"] > 100
    assert sent(rig) == [{"prompt": PROMPT, "stream": True, "partial_images": 1,
                          "model": "gpt-image-2", "size": "1024x1024", "n": 1}]  # fmt: skip
    plain = await rig.generate(key)
    assert plain.headers["Cache-Status"] == "gateway; hit"
    assert plain.json["data"] == [{"b64_json": completed["b64_json"]}]
    assert kinds(await rig.generate(key, stream=True, partial_images=3)) == [COMPLETED]
    await rig.assert_books(1)


async def test_several_pictures_come_with_their_partial_images(rig: Rig) -> None:
    got = await rig.generate(await rig.key(), stream=True, partial_images=2, n=2)
    assert kinds(got) == [PARTIAL] * 4 + [COMPLETED] * 2
    await rig.assert_books(2)


async def test_a_request_without_stream_is_sent_without(rig: Rig) -> None:
    key = await rig.key()
    for stream in (False, None):
        got = await rig.generate(key, None, stream=stream, partial_images=2)
        assert got.json["data"]
    assert [body.keys() & {"stream", "partial_images"} for body in sent(rig)] == [set(), set()]


async def test_only_the_buyer_gets_partial_images(rig: Rig) -> None:
    rig.sandbox.settings.latency = 0.5
    key = await rig.key()
    async with reading(rig, key) as content:
        await content.readuntil(b"\n\n")
        followers = [rig.generate(key, stream=stream, partial_images=3) for stream in (True, False)]
        stream, plain = await asyncio.gather(*followers)
    assert kinds(stream) == [COMPLETED]
    assert len(plain.json["data"]) == 1
    await rig.assert_books(1)


@pytest.mark.parametrize("cache", [True, False])
async def test_a_client_that_leaves_loses_nothing(rig: Rig, cache: bool) -> None:
    rig.sandbox.settings.latency = 0.5
    key = await rig.key(cache=cache)
    async with reading(rig, key) as content:
        await content.readuntil(b"\n\n")
    await until(lambda: rig.gateway.proxy.in_flight == 0)
    assert kinds(await rig.generate(key, stream=True, partial_images=1)) == [COMPLETED]
    await rig.assert_books(1)


# -- upstreams that do something else -----------------------------------------------------------


async def test_an_upstream_that_dies_is_an_error_and_charged_once(rig: Rig) -> None:
    """Its stream ends in the middle of the picture, after a partial image."""
    rig.sandbox.fault = UpstreamFault(kind="cut_in_body")
    key = await rig.key()
    got = await rig.generate(key, stream=True, partial_images=2)
    assert kinds(got) == [PARTIAL, "upstream_cut"]
    assert await metric(rig, "gateway_requests_total", outcome="upstream_cut") == 1
    assert (await rig.generate(key, stream=True)).error[2] == "upstream_cut", "it is a repeat"
    usage = await rig.usage()
    assert (usage.images_bought, usage.images_unknown, rig.sandbox.counts.asked) == (1, 1, 1)


async def test_the_pictures_that_were_completed_are_delivered_and_charged(rig: Rig) -> None:
    rig.sandbox.fault = UpstreamFault(kind="cut_in_body", times=1)
    key = await rig.key()
    got = await rig.generate(key, stream=True, n=3)
    assert kinds(got) == [COMPLETED]
    assert got.headers["Cache-Status"] == "gateway; fwd=miss"
    await rig.assert_books(1)
    assert (await rig.usage()).images_unknown == 0


@pytest.mark.parametrize("images", [0, 1, 4])
async def test_a_stream_of_another_number_of_pictures_costs_those(rig: Rig, images: int) -> None:
    rig.sandbox.fault = UpstreamFault(kind="fewer", images=images)
    got = await rig.generate(await rig.key(), stream=True, n=2)
    if images:
        assert kinds(got) == [COMPLETED] * images
        await rig.assert_books(images)
    else:
        assert got.error[2] == "upstream_unknown"
        assert (await rig.usage()).images_unknown == 2


@pytest.mark.parametrize("kind", ["gzip", "set_cookie", "slow_body"])
async def test_a_stream_may_come_in_another_way(rig: Rig, kind: Any) -> None:
    rig.sandbox.fault = UpstreamFault(kind=kind, after=0.2)
    got = await rig.generate(await rig.key(), stream=True, partial_images=1)
    assert kinds(got) == [PARTIAL, COMPLETED]
    assert "Set-Cookie" not in got.headers
    await rig.assert_books(1)


async def test_an_upstream_that_answers_with_plain_json_works(rig: Rig) -> None:
    body = json.dumps({"created": 7, "data": [{"b64_json": "QUJD"}]})
    rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=body)
    (event,) = events_of((await rig.generate(await rig.key(), stream=True)).body)
    assert (event["b64_json"], event["created_at"]) == ("QUJD", 7)
    await rig.assert_books(1)


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_partial_images_that_nobody_asked_for_are_dropped(
    tmp_path: Path, stream: str
) -> None:
    """The answer to a plain request is one JSON response, whatever the upstream sends."""
    async with running_rig(tmp_path, FLAT, UPSTREAM_STREAM=stream) as rig:
        rig.sandbox.fault = streamed(*[event(PARTIAL)] * 3, event(COMPLETED))
        key = await rig.key(cache=False)
        plain = await rig.generate(key, partial_images=3)
        assert plain.headers["Content-Type"] == "application/json"
        assert plain.json["data"] == [{"b64_json": "QUJD"}]
        wanted = [PARTIAL] if stream == "true" else []
        got = await rig.generate(key, "other", stream=True, partial_images=1)
        assert kinds(got) == [*wanted, COMPLETED]
        assert kinds(await rig.generate(key, "third", stream=True)) == [COMPLETED]
        assert (rig.sandbox.counts.asked, (await rig.usage()).images_bought) == (3, 3)


async def test_an_upstream_that_refuses_streams_is_passed_on(rig: Rig) -> None:
    body = '{"error":{"message":"Unknown parameter.","param":"stream","code":"unknown_parameter"}}'
    rig.sandbox.fault = UpstreamFault(kind="status", status=400, body=body)
    got = await rig.generate(await rig.key(), stream=True)
    assert got.error[::2] == (400, "unknown_parameter")
    assert (await rig.usage()).images_bought == 0


@pytest.mark.parametrize(
    ("code", "status", "charged"),
    [("moderation_blocked", "upstream_failed", 0), ("server_error", "upstream_unknown", 1)],
)
async def test_an_error_in_the_upstreams_stream(
    rig: Rig, code: str, status: str, charged: int
) -> None:
    error = f'data: {{"error":{{"message":"No.","code":"{code}"}}}}\n\n'
    headers = {"Content-Type": "text/event-stream"}
    rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=error, headers=headers)
    got = await rig.generate(await rig.key(), stream=True)
    assert got.error[::2] == (502, status)
    assert "No." in got.json["error"]["message"]
    assert (await rig.usage()).images_unknown == charged


@pytest.mark.parametrize(("asked", "passed_on"), [(None, 0), (0, 0), (2, 2)])
async def test_an_upstream_that_streams_more_than_asked_for_changes_no_answer(
    rig: Rig, asked: int | None, passed_on: int
) -> None:
    """Without `asked`, the request reads no stream at all."""
    partial = f'data: {{"type":"{PARTIAL}","b64_json":"QUJD"}}\n\n'
    last = f'data: {{"type":"{COMPLETED}","b64_json":"QUJD"}}\n\n'
    headers = {"Content-Type": "text/event-stream"}
    rig.sandbox.fault = UpstreamFault(
        kind="status", status=200, body=partial * 5 + last, headers=headers
    )
    fields: dict[str, Any] = {} if asked is None else {"stream": True, "partial_images": asked}
    got = await rig.generate(await rig.key(), **fields)
    if asked is None:
        assert got.headers["Content-Type"] == "application/json"
        assert got.json["data"] == [{"b64_json": "QUJD"}]
    else:
        assert kinds(got) == [PARTIAL] * passed_on + [COMPLETED]
    await rig.assert_books(1)


async def test_a_stream_has_the_bounds_of_any_answer(tmp_path: Path) -> None:
    seconds: dict[str, Any] = {
        "UPSTREAM_CONNECT_SECONDS": "0.5",
        "UPSTREAM_TIMEOUT_SECONDS": "1",
    }
    async with running_rig(tmp_path, FLAT, UPSTREAM_STREAM="true", **seconds) as rig:
        key = await rig.key()
        rig.sandbox.fault = UpstreamFault(kind="slow_body", after=60)
        late = await rig.generate(key, stream=True)
        assert late.error[::2] == (504, "upstream_timeout")
        rig.sandbox.fault, rig.sandbox.settings.latency = None, 0.4
        upstream = replace(
            rig.gateway.settings.upstream, max_response_bytes=3_000, timeout_seconds=60
        )
        rig.gateway.use(replace(rig.gateway.settings, upstream=upstream))
        long = await rig.generate(key, None, stream=True, partial_images=3)
        assert kinds(long)[-1] == "upstream_unknown"
        assert b"longer than max_response_bytes" in long.body
        assert set(kinds(long)[:-1]) == {PARTIAL}
        assert (await rig.usage()).images_unknown == 2


async def test_partial_images_are_held_and_settled_by_their_tokens(tmp_path: Path) -> None:
    asked = {"with": {"stream": True}, "without": {"stream": False}}
    async with running_rig(tmp_path, TOKENS, UPSTREAM_STREAM="true") as rig:
        rig.sandbox.settings.latency = 2.0
        keys = {team: await rig.key(team) for team in asked}
        asking = [
            asyncio.create_task(rig.generate(keys[team], None, n=2, partial_images=3, **fields))
            for team, fields in asked.items()
        ]
        await until(lambda: rig.sandbox.counts.in_flight == 2)
        held = [(await rig.account(team)).day.held_cost for team in asked]
        prompt = 16 * 5  # its bytes, at $5 a million
        assert held == [2 * PRICE + prompt + 2 * 3 * 100 * 30, 2 * PRICE + prompt]
        assert [got.status for got in await asyncio.gather(*asking)] == [200, 200]
        drawn = 4 * 5 + 2 * 1_756 * 30
        costs = [(await rig.usage(team)).cost for team in asked]
        assert costs == [drawn + 2 * 3 * 100 * 30, drawn]
