"""Every fault of the sandbox, and its cost."""

import asyncio
import json
import zlib
from contextlib import AbstractAsyncContextManager, suppress
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest

from gateway.upstream.sandbox import Picture, Sandbox, UpstreamFault
from tests.support.rig import Got
from tests.support.sandboxed import KEY, PATH, PROMPT, Asker, asking, dots, images
from tests.support.steps import until

HEADERS = {"Authorization": f"Bearer {KEY}"}


def opened(asker: Asker, **fields: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """Send a request. The body of the response is not read yet."""
    body = {"prompt": PROMPT, **fields}
    return asker.session.post(asker.sandbox.url + PATH, json=body, headers=HEADERS)


def status(number: int, draws: bool | None = None) -> UpstreamFault:
    return UpstreamFault(kind="status", status=number, draws=draws)


@pytest.mark.parametrize(
    ("fault", "drawn", "delivered"),
    [
        *((status(number), 0, 0) for number in (204, 302, 400, 401, 403, 422, 429, 500, 503)),
        *((status(number), 3, 0) for number in (408, 502, 504, 520, 527)),
        *((status(500, draws=True), 3, 0), (status(502, draws=False), 0, 0)),
        *((UpstreamFault(kind=kind), 3, 0) for kind in ("not_json", "no_image", "empty_image")),
        *((UpstreamFault(kind=kind), 3, 0) for kind in ("cut_before_headers", "cut_in_body")),
        *((UpstreamFault(kind="echo_key"), 0, 0), (UpstreamFault(kind="huge", bytes=9), 3, 0)),
        *((UpstreamFault(kind="fewer", images=come), come, 1) for come in (0, 2, 5)),
        *((UpstreamFault(kind=kind), 3, 1) for kind in ("gzip", "set_cookie")),
        (UpstreamFault(kind="slow_body", after=0.1), 3, 1),
    ],
    ids=str,
)
async def test_the_cost_of_a_fault(
    asker: Asker, fault: UpstreamFault, drawn: int, delivered: int
) -> None:
    asker.sandbox.fault = fault
    with suppress(aiohttp.ClientError):
        await asker.ask(n=3)
    counts = asker.sandbox.counts
    await until(lambda: counts.in_flight == 0)
    assert (counts.asked, counts.calls, counts.images_asked) == (1, 1, 3)
    assert (counts.images_drawn, counts.delivered) == (drawn, delivered)
    assert counts.images_delivered == (drawn if delivered else 0)
    (received,) = counts.requests
    assert (received.images_drawn, received.delivered) == (drawn, bool(delivered))


# -- responses ----------------------------------------------------------------------------------


async def test_the_responses_of_statuses(asker: Asker) -> None:
    asker.sandbox.fault = status(429)
    got = await asker.ask()
    assert got.error == (429, "requests", "rate_limit_exceeded")
    assert (got.headers["Retry-After"], got.json["error"]["param"]) == ("7", None)
    asker.sandbox.fault = status(502)
    got = await asker.ask()
    assert got.headers["Content-Type"].startswith("text/html")
    assert got.body.startswith(b"<html>")
    asker.sandbox.fault = status(308)
    assert (await asker.ask()).headers["Location"] == PATH


async def test_body_and_headers_can_be_chosen(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(
        kind="status", status=429, body='{"a": 1}', headers={"retry-after": "33", "X-A": "b"}
    )
    got = await asker.ask()
    assert (got.json, got.headers["Retry-After"], got.headers["X-A"]) == ({"a": 1}, "33", "b")
    assert got.headers["Content-Type"] == "application/json"
    asker.sandbox.fault = UpstreamFault(kind="status", status=418, body="<b>", headers={"X-A": ""})
    got = await asker.ask()
    assert (got.status, got.body) == (HTTPStatus.IM_A_TEAPOT, b"<b>")
    assert got.headers["Content-Type"] == "text/html; charset=utf-8"


# -- transfer -----------------------------------------------------------------------------------


async def test_a_bomb_is_small_until_it_is_inflated(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="gzip_bomb", bytes=20_000_000)
    async with aiohttp.ClientSession(auto_decompress=False) as asker.session, opened(asker) as got:
        body = await got.read()
    assert (got.status, got.headers["Content-Encoding"]) == (200, "gzip")
    assert len(body) < 100_000
    inflated = zlib.decompress(body, 31)
    assert 20_000_000 < len(inflated) < 21_000_000
    assert json.loads(inflated)["data"][0]["b64_json"].startswith("AAAA")


@pytest.mark.parametrize("kind", ["huge", "gzip_bomb", "slow_body"])
async def test_a_long_answer_ends_undelivered_when_the_client_leaves(
    asker: Asker, kind: str
) -> None:
    fault = {"kind": kind, "bytes": 2**34, "after": 1}
    await asker.call("POST", "/control", json={"faults": [fault]})
    async with opened(asker) as response:
        await response.content.readany()
        response.close()
    await until(lambda: asker.sandbox.counts.in_flight == 0)
    assert asker.sandbox.counts.delivered == 0


@pytest.mark.parametrize(("picture", "n"), [("dot", 1), ("drawn", 10)])
async def test_a_cut_in_the_body_gives_half_of_it(picture: Picture, n: int) -> None:
    async with asking(Sandbox(dots(picture=picture))) as asker:
        asker.sandbox.fault = UpstreamFault(kind="cut_in_body")
        async with opened(asker, n=n, size="2048x2048") as response:
            came = await response.content.readexactly((response.content_length or 0) // 2)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read(1)
        assert came.startswith(b'{"created":')


async def test_a_slow_body_begins_at_once(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="slow_body", after=0.3)
    async with opened(asker) as response:
        assert asker.sandbox.counts.in_flight == 1
        got = await Got.read(response)
    assert len(images(got)) == 1


async def test_a_hanging_call_ends_when_the_client_leaves(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asker.ask(n=2)
    await until(lambda: asker.sandbox.counts.in_flight == 0)
    assert asker.sandbox.counts.images_drawn == 2


# -- how often ----------------------------------------------------------------------------------


async def test_numbered_faults_are_used_up_before_the_lasting_one(asker: Asker) -> None:
    asker.sandbox.faults.append(UpstreamFault(kind="status", status=500, times=2))
    asker.sandbox.faults.append(UpstreamFault(kind="status", status=503, times=1))
    asker.sandbox.fault = UpstreamFault(kind="status", status=404, times=2)
    assert (await asker.ask("")).status == 400  # a refused request uses up no fault
    statuses = [(await asker.ask("fail")).status for _ in range(6)]
    assert statuses == [500, 500, 503, 404, 404, 200]
    assert asker.sandbox.fault is None


# -- the control route --------------------------------------------------------------------------


async def test_faults_and_settings_are_switched_from_outside(asker: Asker) -> None:
    faults = [{"kind": "status", "status": 503, "times": 1}, {"kind": "echo_key"}]
    changes = {"faults": faults, "latency": 0.1, "answer": "url", "url_ttl": 60, "picture": "drawn"}
    asker.sandbox.fault = UpstreamFault(kind="not_json")
    got = await asker.call("POST", "/control", json=changes)
    assert (got.status, len(got.json["faults"])) == (200, 2)
    assert [(await asker.ask()).status for _ in range(3)] == [503, 400, 400]
    read = await asker.call("GET", "/control")
    assert KEY.encode() not in read.body
    assert PROMPT.encode() not in read.body
    shown = read.json
    assert shown["settings"] == {name: changes[name] for name in changes if name != "faults"}
    assert shown["counts"] == asker.sandbox.counts.numbers()
    assert shown["counts"]["asked"] == 3
    assert [fault["kind"] for fault in shown["faults"]] == ["echo_key"]
    assert (await asker.call("POST", "/control", json={"latency": 0})).json["faults"] != []
    assert (await asker.call("DELETE", "/control")).json["faults"] == []
    assert set((await asker.ask()).json["data"][0]) == {"url"}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff", b"[]", b'{"fault": []}', b'{"latency": -1}', b'{"answer": "png"}'),
        *(b'{"faults": [{"kind": "flood"}]}', b'{"faults": [{"kind": "status", "time": 1}]}'),
        *(b'{"faults": [{"kind": "status", "times": 0}]}', b'{"api_key": "x"}'),
        b'{"latency": 5, "faults": [{}]}',
    ],
)
async def test_an_invalid_change_is_refused_whole(asker: Asker, body: bytes) -> None:
    asker.sandbox.fault = UpstreamFault(kind="hang")
    before = (await asker.call("GET", "/control")).json
    assert (await asker.call("POST", "/control", data=body)).status == 400
    assert (await asker.call("GET", "/control")).json == before
