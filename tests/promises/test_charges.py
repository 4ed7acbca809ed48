"""What each end of a call costs: refunds and charges exactly as the error table says.

After each one the account, the usage entry and the answer's own cost agree, nothing is held, a
failure is not kept, and no less is recorded than the upstream drew.
"""

import asyncio
import contextlib
import json
import secrets
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from gateway.core.model import Limits
from gateway.core.money import format_usd
from gateway.upstream.sandbox import Fault
from tests.support.money import (
    PRICE,
    assert_books,
    assert_spent,
    drawing,
    recorded,
    until,
    until_asked,
    until_closed,
)
from tests.support.rig import FLAT, UPSTREAM_KEY, Got, Rig, running_rig

N = 3
"""Images asked for in each case, so that a charge for one would be seen."""

IMPATIENT = {
    "UPSTREAM_CONNECT_SECONDS": "0.9",
    "UPSTREAM_TIMEOUT_SECONDS": "1",
    "UPSTREAM_MAX_RESPONSE_BYTES": "200000",
}


class Row(Struct, frozen=True):
    """A row of the error table: what goes wrong, and what the caller is answered."""

    fault: Fault
    status: int
    type: str
    code: str
    charged: bool = False
    retry: bool = True


def status(number: int, **fields: Any) -> Fault:
    return Fault(kind="status", status=number, **fields)


FAILED = "upstream_error", "upstream_failed"
AUTH = "upstream_error", "upstream_auth"
UNKNOWN = "upstream_error", "upstream_unknown"
MODERATED = "image_generation_user_error", "moderation_blocked"

ROWS = {
    "400": Row(status(400), 400, *MODERATED),
    "404": Row(status(404), 404, "invalid_request_error", "model_not_found"),
    "422": Row(status(422), 422, "invalid_request_error", "unprocessable"),
    "429": Row(status(429), 429, "requests", "rate_limit_exceeded"),
    "400 with a key in it": Row(Fault(kind="echo_key"), 400, "invalid_request_error", "rejected"),
    "400 that is a page": Row(
        status(400, body="<html>"), 400, "upstream_error", "upstream_refused"
    ),
    "401": Row(status(401), 502, *AUTH, retry=False),
    "403": Row(status(403), 502, *AUTH, retry=False),
    "402": Row(status(402), 502, *FAILED, retry=False),
    "409": Row(status(409), 502, *FAILED, retry=False),
    "413": Row(status(413), 502, *FAILED, retry=False),
    "418": Row(status(418), 502, *FAILED, retry=False),
    "302": Row(status(302), 502, *FAILED, retry=False),
    "307": Row(status(307), 502, *FAILED, retry=False),
    "500": Row(status(500), 502, *FAILED),
    "503": Row(status(503), 502, *FAILED),
    "408": Row(status(408), 502, *UNKNOWN, charged=True, retry=False),
    "502": Row(status(502), 502, *UNKNOWN, charged=True, retry=False),
    "504": Row(status(504), 502, *UNKNOWN, charged=True, retry=False),
    "520": Row(status(520), 502, *UNKNOWN, charged=True, retry=False),
    "527": Row(status(527), 502, *UNKNOWN, charged=True, retry=False),
    "501": Row(status(501), 502, *UNKNOWN, charged=True, retry=False),
    "204": Row(status(204), 502, *UNKNOWN, charged=True, retry=False),
    "no JSON": Row(Fault(kind="not_json"), 502, *UNKNOWN, charged=True, retry=False),
    "no image": Row(Fault(kind="no_image"), 502, *UNKNOWN, charged=True, retry=False),
    "empty image": Row(Fault(kind="empty_image"), 502, *UNKNOWN, charged=True, retry=False),
    "too long": Row(Fault(kind="huge", bytes=400_000), 502, *UNKNOWN, charged=True, retry=False),
    "gzip bomb": Row(
        Fault(kind="gzip_bomb", bytes=5_000_000), 502, *UNKNOWN, charged=True, retry=False
    ),
    "cut before the headers": Row(
        Fault(kind="cut_before_headers"),
        *(502, "upstream_error", "upstream_cut"),
        charged=True,
        retry=False,
    ),
    "cut in the body": Row(
        Fault(kind="cut_in_body"),
        *(502, "upstream_error", "upstream_cut"),
        charged=True,
        retry=False,
    ),
    "no answer in time": Row(
        Fault(kind="hang"),
        *(504, "upstream_error", "upstream_timeout"),
        charged=True,
        retry=False,
    ),
    "the body not in time": Row(
        Fault(kind="slow_body", after=60),
        *(504, "upstream_error", "upstream_timeout"),
        charged=True,
        retry=False,
    ),
}


def assert_error(got: Got, row: Row) -> None:
    assert got.error == (row.status, row.type, row.code)
    assert got.headers.get("x-should-retry") == (None if row.retry else "false")
    assert UPSTREAM_KEY.encode() not in got.body
    assert got.headers["x-gateway-cost-usd"] == format_usd(N * PRICE if row.charged else 0)


@pytest.mark.parametrize("case", ROWS)
async def test_a_failure_costs_what_the_table_says(tmp_path: Path, case: str) -> None:
    row = ROWS[case]
    async with running_rig(tmp_path, FLAT, None, **IMPATIENT) as rig:
        key = await rig.key()
        rig.sandbox.fault = row.fault
        got = await rig.generate(key, n=N)
        rig.sandbox.fault = None
        assert_error(got, row)
        charged = N if row.charged else 0
        await assert_books(rig, "team", charged, charged * PRICE)
        assert (await recorded(rig, "team")).images_unknown == charged
        assert charged >= rig.sandbox.counts.images_drawn
        # What failed was not kept: the same request is bought, and that is kept.
        assert (await rig.generate(key, n=N)).headers["x-gateway-cost-usd"] == "0.12"
        assert (await rig.generate(key, n=N)).headers["Cache-Status"] == "gateway; hit"
        assert rig.sandbox.counts.asked == 2
        await assert_books(rig, "team", charged + N, (charged + N) * PRICE)


async def test_each_failure_is_one_entry_with_its_outcome(rig: Rig) -> None:
    key = await rig.key()
    for fault in (status(400), status(502), None):
        rig.sandbox.fault = fault
        await rig.generate(key, None)
    rows = await rig.gateway.store.usage.report(("outcome",), None, None)
    assert {row.group[0]: (row.requests, row.images_bought) for row in rows} == {
        "failed": (1, 0),
        "unknown": (1, 1),
        "bought": (1, 1),
    }


@pytest.mark.parametrize(("told", "kept"), [("7", "7"), ("0", "1"), ("3600", "60"), ("x", None)])
async def test_the_upstreams_retry_after_is_kept_within_a_minute(
    rig: Rig, told: str, kept: str | None
) -> None:
    rig.sandbox.fault = status(429, headers={"Retry-After": told})
    got = await rig.generate(await rig.key())
    assert got.status == 429
    assert got.headers.get("Retry-After") == kept


# -- no connection ------------------------------------------------------------------------------


async def nobody_there() -> str:
    """A URL that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("case", ["refused", "no such name", "no TLS"])
async def test_without_a_connection_nothing_is_charged(tmp_path: Path, case: str) -> None:
    plain = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]
    url = {
        "refused": await nobody_there(),
        "no such name": "http://images.invalid",
        "no TLS": f"https://127.0.0.1:{port}",
    }[case]
    async with plain, running_rig(tmp_path, FLAT, UPSTREAM_BASE_URL=url) as rig:
        key = await rig.key()
        for _ in range(2):
            got = await rig.generate(key, n=N)
            assert_error(got, Row(status(0), 503, "upstream_error", "upstream_unreachable"))
        await assert_books(rig, "team", 0, 0)
        assert (await recorded(rig, "team")).requests == 2


async def test_a_connection_that_does_not_come_about_in_time_is_free(tmp_path: Path) -> None:
    with socket.socket() as full:  # accepts nobody: its queue is full from the second one on
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.connect(("127.0.0.1", port))
        environ = {
            "UPSTREAM_BASE_URL": f"http://127.0.0.1:{port}",
            "UPSTREAM_CONNECT_SECONDS": "0.3",
        }
        async with running_rig(tmp_path, FLAT, None, **environ) as rig:
            got = await rig.generate(await rig.key(), n=N)
            assert got.error == (503, "upstream_error", "upstream_unreachable")
            await assert_books(rig, "team", 0, 0)
        for each in waiting:
            each.close()


# -- answers ------------------------------------------------------------------------------------


async def test_fewer_images_are_paid_as_delivered_and_not_kept(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        key = await rig.key(limits=Limits(images_per_day=8))
        rig.sandbox.fault = Fault(kind="fewer", images=3, times=1)
        got = await rig.generate(key, n=4)
        assert got.status == 200
        assert len(got.json["data"]) == 3
        assert got.headers["x-gateway-cost-usd"] == "0.12"
        assert got.headers["Cache-Status"] == "gateway; fwd=miss"
        await assert_books(rig, "team", 3, 3 * PRICE)
        got = await rig.generate(key, n=4)
        assert got.headers["Cache-Status"] == "gateway; fwd=miss; stored"
        await assert_books(rig, "team", 7, 7 * PRICE)
        assert rig.sandbox.counts.images_drawn == 7


async def test_more_images_than_asked_for_are_paid_in_full(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        key = await rig.key(limits=Limits(images_per_day=10, cost_per_day=10 * PRICE))
        rig.sandbox.fault = Fault(kind="fewer", images=5, times=1)
        got = await rig.generate(key, n=2)
        assert (got.status, len(got.json["data"])) == (200, 5)
        await assert_books(rig, "team", 5, 5 * PRICE)
        metrics = (await rig.admin("/metrics")).body
        assert b"gateway_settlements_above_hold_total 1.0" in metrics


async def test_a_compressed_answer_is_read_like_any_other(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        key = await rig.key()
        rig.sandbox.fault = Fault(kind="gzip", times=1)
        got = await rig.generate(key, n=2)
        assert "Content-Encoding" not in got.headers
        assert len(got.json["data"]) == 2
        await assert_books(rig, "team", 2, 2 * PRICE)
        assert (await rig.generate(key, n=2)).body == got.body


# -- prices -------------------------------------------------------------------------------------

LARGEST = "3840x2160"
LARGEST_HIGH = -(-211_000 * 8_294_400 // 1_048_576)

PRICES = {
    ("low", "1024x1024"): 6_000,
    ("medium", "1024x1024"): 53_000,
    ("high", "1024x1024"): 211_000,
    ("high", "1024x1536"): 165_000,
    ("high", "1536x1024"): 165_000,
    # No cell of their own: the dearest of the quality, by pixels above 1,048,576.
    ("low", "1024x1536"): 9_000,
    ("low", "832x832"): 6_000,
    ("medium", "2048x2048"): 212_000,
    ("high", LARGEST): LARGEST_HIGH,
    # Held at the dearest, settled by the answer's own words: medium and 1024x1024.
    ("auto", "1024x1024"): 53_000,
    (None, "1024x1024"): 53_000,
    ("auto", "auto"): 53_000,
    (None, "auto"): 53_000,
    ("low", "auto"): 6_000,
    ("high", "auto"): 211_000,
    ("auto", "1024x1536"): 79_500,
}


@pytest.mark.parametrize(("quality", "size"), PRICES)
async def test_an_image_costs_what_the_price_table_says(
    rig: Rig, quality: str | None, size: str
) -> None:
    price = PRICES[quality, size]
    key = await rig.key()
    rig.sandbox.settings.latency = 0.1
    asked = asyncio.create_task(rig.generate(key, size=size, n=2, quality=quality))
    await until_asked(rig, 1)
    (hold,) = (await rig.account()).holds.values()
    got = await asked
    assert hold.cost >= 2 * price
    assert got.headers["x-gateway-cost-usd"] == format_usd(2 * price)
    await assert_books(rig, "team", 2, 2 * price)


async def test_what_is_auto_needs_room_for_the_dearest(rig: Rig) -> None:
    key = await rig.key(limits=Limits(cost_per_day=LARGEST_HIGH - 1))
    got = await rig.generate(key, size="auto")
    assert got.error == (429, "insufficient_quota", "insufficient_quota")
    assert (await rig.generate(key, size="1024x1024", quality="high")).status == 200
    assert rig.sandbox.counts.asked == 1


# -- a client that hangs up ---------------------------------------------------------------------


async def test_a_hang_up_is_bought_once_and_kept(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=1.5)) as rig:
        key = await rig.key()
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await rig.generate(key, n=2)
        assert (await rig.account()).day.held_images == 2
        await until_closed(rig)
        assert 1.4 < time.monotonic() - started < 2.5
        await assert_books(rig, "team", 2, 2 * PRICE)
        got = await rig.generate(key, n=2)
        assert got.headers["Cache-Status"] == "gateway; hit"
        assert rig.sandbox.counts.asked == 1
        await assert_books(rig, "team", 2, 2 * PRICE)


async def test_a_client_that_comes_back_during_the_call_joins_it(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=1)) as rig:
        key = await rig.key()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await rig.generate(key)
        got = await rig.generate(key)
        assert got.headers["Cache-Status"] == "gateway; fwd=miss; collapsed"
        assert rig.sandbox.counts.asked == 1
        await assert_books(rig, "team", 1, PRICE)


async def send_and_leave(url: str, key: str, delay: float) -> None:
    """Send a whole request, wait so long, and break the connection."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"prompt": secrets.token_hex(8)})
    head = (
        f"POST /v1/images/generations HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write((head + body).encode())
    await writer.drain()
    await asyncio.sleep(delay)
    writer.transport.abort()


async def test_hanging_up_at_any_moment_leaves_no_hold_and_no_gap(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.02)) as rig:
        key = await rig.key(limits=Limits(images_per_day=150))
        # From before the request is read, over its reservation, to after its answer.
        await asyncio.gather(
            *(send_and_leave(rig.url, key, number / 2_000) for number in range(200))
        )
        proxy = rig.gateway.proxy
        await until(lambda: not proxy.in_flight and not len(proxy.flights))
        drawn = rig.sandbox.counts.images_drawn
        assert 50 < drawn <= 150
        await assert_books(rig, "team", drawn, drawn * PRICE)


# -- totals -------------------------------------------------------------------------------------


@pytest.mark.alone
async def test_what_is_recorded_is_never_below_what_was_drawn(tmp_path: Path) -> None:
    """Everything that can go wrong, many times over, at once."""
    patient = {**IMPATIENT, "UPSTREAM_TIMEOUT_SECONDS": "3"}
    async with running_rig(tmp_path, FLAT, None, **patient) as rig:
        keys = [await rig.key(f"team-{number}") for number in range(4)]
        for row in [*ROWS.values()] * 4:
            for fault in (row.fault, Fault(kind="gzip")):
                rig.sandbox.faults.append(replace(fault, times=1))
        got = await asyncio.gather(
            *(rig.generate(keys[number % 4], None, n=2) for number in range(len(ROWS) * 10))
        )
        charged = sum(
            2 * (each.status == 200 or each.headers["x-gateway-cost-usd"] != "0") for each in got
        )
        usage = await rig.usage()
        assert usage.images_bought == charged >= rig.sandbox.counts.images_drawn
        accounts = [await rig.account(f"team-{number}") for number in range(4)]
        assert sum(account.day.images for account in accounts) == charged
        for account in accounts:
            assert_spent(account, account.day.images, account.day.images * PRICE)
        assert usage.images_bought - usage.images_unknown == rig.sandbox.counts.images_delivered
