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
from tests.support.steps import USED_UP, drawing, metric, until, until_asked

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


async def test_excess_is_charged_counted_and_refuses_the_next_purchase(tmp_path: Path) -> None:
    async with running_rig(tmp_path, f"[limits]\nimages_per_day = 20\n{FLAT}") as rig:
        key = await rig.key(limits=Limits(images_per_day=10))
        other = await rig.key("other")
        rig.sandbox.fault = UpstreamFault(kind="fewer", images=1_500, times=1)
        got = await rig.generate(key, PROMPT)
        assert (got.status, len(got.json["data"])) == (200, 1_500)
        assert got.headers["x-gateway-cost-usd"] == "60"
        await rig.assert_books(1_500)
        assert_spent(await rig.gateway_account(), 1_500, 1_500 * PRICE)
        assert await metric(rig, "gateway_excess_images_total", team="team") == 1_499
        assert await metric(rig, "gateway_excess_images_total", team="other") == 0
        for each in (key, other):
            assert (await rig.generate(each, None)).error == USED_UP
        again = await rig.generate(key, PROMPT)
        assert (again.body, again.headers["Cache-Status"]) == (got.body, "gateway; hit")


# -- answers with faults in their form ----------------------------------------------------------

PICTURE = {"b64_json": "aGk="}
FAULTY = {
    '\ufeff{"data":[{"b64_json":"aGk="}]}': {"data": [PICTURE]},
    '{"n":NaN,"data":[null,{"b64_json":"aGk="},"x",{"url":"y"}]}': {
        "n": None,
        "data": [PICTURE, {"url": "y"}],
    },
    '{"data":[{"b64_json":"aGk="}],"data":[]}': {"data": [PICTURE]},
    '{"data":[{"b64_json":"aGk=","x":' + "[" * 9_000 + "]" * 9_000 + "}]}": None,
    ' {"data":[{"b64_json":"aGk=","revised_prompt":"\\ud83d"},]} ok': {
        "data": [{**PICTURE, "revised_prompt": "?"}]
    },
    # A large one, which is read in a thread.
    '\ufeff{"data":[{"b64_json":"' + "A" * 5_000_000 + '"}]}': {
        "data": [{"b64_json": "A" * 5_000_000}]
    },
}


async def test_an_answer_with_faults_is_delivered_and_charged_for_its_pictures(
    tmp_path: Path,
) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        key, charged = await rig.key(), 0
        for body, read in FAULTY.items():
            rig.sandbox.faults.append(answering(body, **{"Content-Type": "text/plain"}))
            got = await rig.generate(key, None)
            assert (got.status, got.headers["Content-Type"]) == (200, "application/json")
            assert got.headers["Cache-Status"] == "gateway; fwd=miss; stored"
            assert read is None or json.loads(got.body) == read
            charged += len(got.json["data"])
        await rig.assert_books(charged)
        rig.sandbox.faults.append(answering('{"data":[{"b64_json":null}]'))
        assert (await rig.generate(key, None, n=2)).error[2] == "upstream_unknown"
        await rig.assert_books(charged + 2)
        assert (await rig.usage()).images_unknown == 2


async def test_the_bytes_of_a_sound_answer_are_not_touched(rig: Rig) -> None:
    body = '{ "created": 1.0, "data": [ {"b64_json": "aGk=", "url": null} ],\n"x": "\\u00e9/" }\n'
    rig.sandbox.faults.append(answering(body, **{"Content-Encoding": "utf-8"}))
    assert (await rig.generate(await rig.key(), None)).body == body.encode()


async def test_a_picture_in_its_url_is_kept_like_base64(rig: Rig) -> None:
    key, uri = await rig.key(), "data:image/png;base64," + "A" * 200_000
    rig.sandbox.faults.append(answering(json.dumps({"data": [{"url": uri}]})))
    for status in ("gateway; fwd=miss; stored", "gateway; hit"):
        got = await rig.generate(key, PROMPT)
        both = {"url": uri, "b64_json": "A" * 200_000}
        assert (got.json["data"], got.headers["Cache-Status"]) == ([both], status)


def answering(body: str, **headers: str) -> UpstreamFault:
    """One answer of the upstream with this body."""
    return UpstreamFault(kind="status", status=200, body=body, headers=headers, draws=True, times=1)


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


async def test_an_image_costs_what_the_price_table_says(rig: Rig) -> None:
    rig.sandbox.settings.latency = 1.5  # for a look at the holds, also on a busy machine
    teams = {f"team-{number}": kind for number, kind in enumerate(PRICES)}
    keys = {team: await rig.key(team) for team in teams}
    asked = {
        team: asyncio.create_task(rig.generate(keys[team], size=size, n=2, quality=quality))
        for team, (quality, size) in teams.items()
    }
    await until_asked(rig, len(teams))
    held = {team: list((await rig.account(team)).holds.values()) for team in teams}
    for team, kind in teams.items():
        got, price = await asked[team], PRICES[kind]
        (hold,) = held[team]
        assert hold.cost >= 2 * price
        assert got.headers["x-gateway-cost-usd"] == format_usd(2 * price), kind
        await rig.assert_books(2, 2 * price, team=team)


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


async def test_usage_under_the_names_of_chat_completions_is_charged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running_rig(tmp_path, TOKENS) as rig:
        key, total = await rig.key(), 0
        counts = {"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120}
        by_table = 40_000 + 5 * len(PROMPT)
        for usage, micro in (
            (counts, 20 * 8 + 100 * 30),
            (None, by_table),
            ({**counts, "total_tokens": 121}, by_table),
        ):
            rig.sandbox.faults.append(answering(json.dumps({"data": [PICTURE], "usage": usage})))
            got = await rig.generate(key, PROMPT, headers={"Cache-Control": "no-store"})
            assert got.headers["x-gateway-cost-usd"] == format_usd(micro)
            total += micro
        await rig.assert_books(3, total)
        assert await metric(rig, "gateway_token_usage_fallbacks_total") == 2
    # Two within a minute are one line.
    assert "".join(capfd.readouterr()).count("no usable token usage") == 1


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
            *(send_and_leave(rig.url, key, number / 1_000) for number in range(200))
        )
        proxy = rig.gateway.proxy
        await until(lambda: not proxy.in_flight and not len(proxy.flights))
        drawn = rig.sandbox.counts.images_drawn
        assert 20 < drawn <= 150
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
    patience = {"UPSTREAM_CONNECT_SECONDS": "1", "UPSTREAM_TIMEOUT_SECONDS": "6"}
    teams = [f"team-{number}" for number in range(4)]
    async with running_rig(tmp_path, FLAT, None, **patience) as rig:
        keys = [await rig.key(team) for team in teams]
        rig.sandbox.faults += [replace(fault, times=1) for fault in faults * 4]
        got = await asyncio.gather(
            *(rig.generate(keys[number % 4], None, n=2) for number in range(100))
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
