"""What a purchase costs: prices by the table, answers that differ from the request, and totals."""

import asyncio
import json
import secrets
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core.model import Limits
from gateway.core.money import format_usd
from gateway.upstream.sandbox import UpstreamFault
from tests.support.raw import request_bytes, wire
from tests.support.rig import FLAT, PRICE, Got, Rig, assert_spent, running_rig
from tests.support.steps import USED_UP, drawing, until, until_asked

# -- answers ------------------------------------------------------------------------------------


async def test_fewer_images_are_paid_as_delivered_and_not_kept(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        key = await rig.key(limits=Limits(images_per_day=8))
        rig.sandbox.fault = UpstreamFault(kind="fewer", images=3, times=1)
        got = await rig.generate(key, n=4)
        assert got.status == 200
        assert len(got.json["data"]) == 3
        assert got.headers["x-gateway-cost-usd"] == "0.12"
        assert got.headers["Cache-Status"] == "gateway; fwd=miss"
        await rig.assert_books(3)
        got = await rig.generate(key, n=4)
        assert got.headers["Cache-Status"] == "gateway; fwd=miss; stored"
        await rig.assert_books(7)
        assert rig.sandbox.counts.images_drawn == 7


async def test_more_images_than_asked_for_are_paid_in_full(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        key = await rig.key(limits=Limits(images_per_day=10, cost_per_day=10 * PRICE))
        rig.sandbox.fault = UpstreamFault(kind="fewer", images=5, times=1)
        got = await rig.generate(key, n=2)
        assert (got.status, len(got.json["data"])) == (200, 5)
        await rig.assert_books(5)
        metrics = (await rig.admin("/metrics")).body
        assert b"gateway_settlements_above_hold_total 1.0" in metrics


# -- prices -------------------------------------------------------------------------------------

LARGEST = "3840x2160"
LARGEST_HIGH = -(-211_000 * 8_294_400 // 1_048_576)

PRICES = {
    ("low", "1024x1024"): 6_000,
    ("high", "1024x1024"): 211_000,
    ("high", "1024x1536"): 165_000,
    # Not in the table: the dearest price of the quality, by pixels above 1,048,576.
    ("low", "1024x1536"): 9_000,
    ("high", LARGEST): LARGEST_HIGH,
    # Held at the dearest, settled by the answer's own quality and size: medium, 1024x1024.
    ("auto", "1024x1024"): 53_000,
    (None, "auto"): 53_000,
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
    await rig.assert_books(2, 2 * price)


async def test_auto_needs_room_for_the_dearest_image(rig: Rig) -> None:
    key = await rig.key(limits=Limits(cost_per_day=LARGEST_HIGH - 1))
    got = await rig.generate(key, size="auto")
    assert got.error == (429, "insufficient_quota", "insufficient_quota")
    assert (await rig.generate(key, size="1024x1024", quality="high")).status == 200
    assert rig.sandbox.counts.asked == 1


# -- tokens -------------------------------------------------------------------------------------

TOKENS = """
[models."gpt-image-2"]
billing = "tokens"
prices = 0.04
"""
PROMPT = "a red apple"


def used(got: Got) -> int:
    """The cost of the answer by its own usage, in micro-dollars."""
    usage = got.json["usage"]
    return int(usage["input_tokens"] * 5 + usage["output_tokens"] * 30)


async def test_where_tokens_are_billed_the_usage_is_charged(tmp_path: Path) -> None:
    async with running_rig(tmp_path, TOKENS) as rig:
        key = await rig.key()
        got = await rig.generate(key, PROMPT, n=2)
        assert used(got) not in (0, 80_000)
        assert got.headers["x-gateway-cost-usd"] == format_usd(used(got))
        await rig.assert_books(2, used(got))
        again = await rig.generate(key, PROMPT, n=2)
        assert again.headers["x-gateway-cost-usd"] == "0"
        assert again.headers["x-gateway-saved-usd"] == format_usd(used(got))


async def test_the_prompt_is_held_beside_the_image(tmp_path: Path) -> None:
    ceiling = 40_000 + 5 * len(PROMPT)
    async with running_rig(tmp_path, TOKENS) as rig:
        short = await rig.key("short", limits=Limits(cost_per_day=ceiling - 1))
        assert (await rig.generate(short, PROMPT)).error == USED_UP
        enough = await rig.key("enough", limits=Limits(cost_per_day=ceiling))
        assert (await rig.generate(enough, PROMPT)).status == 200


# -- a client that hangs up ---------------------------------------------------------------------


async def send_and_leave(url: str, key: str, delay: float) -> None:
    """Send a whole request, wait `delay` seconds, and close the connection."""
    body = json.dumps({"prompt": secrets.token_hex(8)}).encode()
    async with wire(url) as connection:
        await connection.send(request_bytes(key, body=body))
        await asyncio.sleep(delay)


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
        await rig.assert_books(drawn)


# -- totals -------------------------------------------------------------------------------------


async def test_no_less_is_recorded_than_was_drawn(tmp_path: Path) -> None:
    """Every kind of failure many times over, all at once."""
    faults = [
        *(
            UpstreamFault(kind="status", status=each)
            for each in (400, 401, 429, 302, 500, 503, 502, 504)
        ),
        *(UpstreamFault(kind=each) for each in ("not_json", "no_image", "empty_image", "echo_key")),
        *(
            UpstreamFault(kind=each)
            for each in ("cut_before_headers", "cut_in_body", "hang", "gzip")
        ),
    ]
    patience = {"UPSTREAM_CONNECT_SECONDS": "1", "UPSTREAM_TIMEOUT_SECONDS": "4"}
    teams = [f"team-{number}" for number in range(4)]
    async with running_rig(tmp_path, FLAT, None, **patience) as rig:
        keys = [await rig.key(team) for team in teams]
        rig.sandbox.faults += [replace(fault, times=1) for fault in faults * 4]
        got = await asyncio.gather(
            *(rig.generate(keys[number % 4], None, n=2) for number in range(200))
        )
        charged = sum(
            2 * (each.status == 200 or each.headers["x-gateway-cost-usd"] != "0") for each in got
        )
        usage = await rig.usage()
        assert usage.images_bought == charged >= rig.sandbox.counts.images_drawn
        accounts = [await rig.account(team) for team in teams]
        assert sum(account.day.images for account in accounts) == charged
        for account in accounts:
            assert_spent(account, account.day.images, account.day.images * PRICE)
        assert usage.images_bought - usage.images_unknown == rig.sandbox.counts.images_delivered
