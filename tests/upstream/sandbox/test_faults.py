"""Every fault of the sandbox, and its cost."""

import asyncio
import gzip
import json
import zlib
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest

from gateway.upstream.sandbox import Picture, Sandbox, UpstreamFault
from tests.support.rig import Got
from tests.support.sandboxed import KEY, PATH, PROMPT, Asker, asking, dots, images
from tests.support.steps import until

HEADERS = {"Authorization": f"Bearer {KEY}"}


def assert_counts(asker: Asker, *, calls: int, drawn: int, delivered: int = 0) -> None:
    counts = asker.sandbox.counts
    assert (counts.asked, counts.calls) == (calls, calls)
    assert counts.images_drawn == drawn
    assert (counts.delivered, counts.in_flight) == (delivered, 0)


def opened(asker: Asker, **fields: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """Send a request. The body of the response is not read yet."""
    body = {"prompt": PROMPT, **fields}
    return asker.session.post(asker.sandbox.url + PATH, json=body, headers=HEADERS)


# -- statuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "type", "code"),
    [
        (400, "image_generation_user_error", "moderation_blocked"),
        (401, "invalid_request_error", "invalid_api_key"),
        (403, "permission_error", "forbidden"),
        (404, "invalid_request_error", "model_not_found"),
        (422, "invalid_request_error", "unprocessable"),
        (429, "requests", "rate_limit_exceeded"),
        (500, "server_error", "server_error"),
        (503, "server_error", "overloaded"),
    ],
)
async def test_an_error_has_openais_form_and_costs_nothing(
    asker: Asker, status: int, type: str, code: str
) -> None:
    asker.sandbox.fault = UpstreamFault(kind="status", status=status)
    got = await asker.ask(n=3)
    assert got.error == (status, type, code)
    assert got.headers.get("Retry-After") == ("7" if status == 429 else None)
    assert got.json["error"]["param"] is None
    assert_counts(asker, calls=1, drawn=0)


@pytest.mark.parametrize("status", [408, 502, 504, 520, 527])
async def test_a_gateway_error_is_a_page_and_the_origin_draws(asker: Asker, status: int) -> None:
    asker.sandbox.fault = UpstreamFault(kind="status", status=status)
    got = await asker.ask(n=3)
    assert got.status == status
    assert got.headers["Content-Type"].startswith("text/html")
    assert got.body.startswith(b"<html>")
    assert_counts(asker, calls=1, drawn=3)


@pytest.mark.parametrize("status", [301, 308])
async def test_a_redirect_leads_back_to_a_counted_route(asker: Asker, status: int) -> None:
    asker.sandbox.fault = UpstreamFault(kind="status", status=status)
    got = await asker.ask()
    assert (got.status, got.headers["Location"]) == (status, PATH)
    assert_counts(asker, calls=1, drawn=0)


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


@pytest.mark.parametrize(("status", "draws"), [(500, True), (502, False)])
async def test_whether_it_draws_can_be_chosen(asker: Asker, status: int, draws: bool) -> None:
    asker.sandbox.fault = UpstreamFault(kind="status", status=status, draws=draws)
    await asker.ask(n=2)
    assert_counts(asker, calls=1, drawn=2 if draws else 0)


# -- unusable responses -------------------------------------------------------------------------


async def test_responses_without_an_image(asker: Asker) -> None:
    asker.sandbox.faults.append(UpstreamFault(kind="not_json", times=1))
    asker.sandbox.faults.append(UpstreamFault(kind="no_image", times=1))
    asker.sandbox.faults.append(UpstreamFault(kind="empty_image", times=1))
    page, none, null = [await asker.ask() for _ in range(3)]
    assert [got.status for got in (page, none, null)] == [200, 200, 200]
    assert page.headers["Content-Type"].startswith("text/html")
    assert (none.json["data"], null.json["data"]) == ([], [{"b64_json": None}])
    assert_counts(asker, calls=3, drawn=3)


@pytest.mark.parametrize(("asked", "come"), [(4, 3), (4, 0), (1, 5)])
async def test_the_number_of_images_can_be_chosen(asker: Asker, asked: int, come: int) -> None:
    asker.sandbox.fault = UpstreamFault(kind="fewer", images=come)
    got = await asker.ask(n=asked)
    assert (got.status, len(got.json["data"])) == (200, come)
    assert asker.sandbox.counts.images_asked == asked
    assert asker.sandbox.counts.images_delivered == come
    assert_counts(asker, calls=1, drawn=come, delivered=1)


async def test_the_key_can_be_repeated(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="echo_key")
    got = await asker.ask()
    assert got.error == (400, "invalid_request_error", "rejected")
    assert f"Bearer {KEY}" in got.json["error"]["message"]
    assert_counts(asker, calls=1, drawn=0)


async def test_a_response_with_hop_by_hop_headers(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="set_cookie")
    got = await asker.ask()
    assert {"Set-Cookie", "x-ratelimit-remaining-images", "Keep-Alive"} <= set(got.headers)
    assert len(images(got)) == 1
    assert_counts(asker, calls=1, drawn=1, delivered=1)


# -- transfer -----------------------------------------------------------------------------------


async def raw(asker: Asker) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a 200 as they come, compressed or not."""
    body = {"prompt": PROMPT}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(asker.sandbox.url + PATH, json=body, headers=HEADERS) as response,
    ):
        assert response.status == 200
        return dict(response.headers), await response.read()


async def test_an_answer_may_be_compressed(asker: Asker) -> None:
    plain = await asker.ask()
    asker.sandbox.fault = UpstreamFault(kind="gzip")
    headers, body = await raw(asker)
    assert headers["Content-Encoding"] == "gzip"
    assert {**json.loads(gzip.decompress(body)), "created": 0} == {**plain.json, "created": 0}
    assert_counts(asker, calls=2, drawn=2, delivered=2)


async def test_a_bomb_is_small_until_it_is_inflated(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="gzip_bomb", bytes=20_000_000)
    headers, body = await raw(asker)
    assert headers["Content-Encoding"] == "gzip"
    assert len(body) < 100_000
    inflated = zlib.decompress(body, 31)
    assert 20_000_000 < len(inflated) < 21_000_000
    assert json.loads(inflated)["data"][0]["b64_json"].startswith("AAAA")
    assert_counts(asker, calls=1, drawn=1)


async def test_an_answer_may_be_too_long(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="huge", bytes=5_000_000)
    got = await asker.ask()
    assert got.headers["Transfer-Encoding"] == "chunked"
    assert 5_000_000 < len(got.body) < 5_200_000
    assert set(got.json) == {"created", "data"}
    assert_counts(asker, calls=1, drawn=1)


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
    assert_counts(asker, calls=1, drawn=1)


async def test_a_cut_before_the_headers_gives_no_answer(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="cut_before_headers")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await asker.ask(n=2)
    assert_counts(asker, calls=1, drawn=2)


@pytest.mark.parametrize(("picture", "n"), [("dot", 1), ("drawn", 10)])
async def test_a_cut_in_the_body_gives_half_of_it(picture: Picture, n: int) -> None:
    async with asking(Sandbox(dots(picture=picture))) as asker:
        asker.sandbox.fault = UpstreamFault(kind="cut_in_body")
        async with opened(asker, n=n, size="2048x2048") as response:
            came = await response.content.readexactly((response.content_length or 0) // 2)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read(1)
        assert came.startswith(b'{"created":')
        assert_counts(asker, calls=1, drawn=n)


async def test_a_slow_body_begins_at_once(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="slow_body", after=0.3)
    async with opened(asker) as response:
        assert asker.sandbox.counts.in_flight == 1
        got = await Got.read(response)
    assert len(images(got)) == 1
    assert_counts(asker, calls=1, drawn=1, delivered=1)


async def test_a_hanging_call_ends_when_the_client_leaves(asker: Asker) -> None:
    asker.sandbox.fault = UpstreamFault(kind="hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asker.ask(n=2)
    await until(lambda: asker.sandbox.counts.in_flight == 0)
    assert_counts(asker, calls=1, drawn=2)


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
