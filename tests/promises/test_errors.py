"""The error table, row by row: status, type, code, headers, and what the ledger keeps of it.

How much is charged, and what concurrency does to it, has tests of its own.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from gateway.core import key_format
from gateway.core.model import Limits
from gateway.upstream.sandbox import Fault, SandboxSettings
from tests.support.directory import set_state
from tests.support.raw import PATH, ask, request_bytes
from tests.support.rig import FLAT, PROMPT, UPSTREAM_KEY, Got, Rig, running_rig
from tests.support.steps import until

QUICK: dict[str, Any] = {
    "UPSTREAM_CONNECT_SECONDS": "0.9",
    "UPSTREAM_TIMEOUT_SECONDS": "1",
    "UPSTREAM_MAX_RESPONSE_BYTES": "1000000",
}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway that gives up on its upstream early; every image costs $0.04."""
    async with running_rig(tmp_path, FLAT, **QUICK) as running:
        yield running


def retried(got: Got) -> bool:
    """Whether an SDK would send the request again."""
    assert got.headers.get("x-should-retry") in (None, "false")
    return got.status in (429, 500, 502, 503, 504) and "x-should-retry" not in got.headers


async def is_free(rig: Rig) -> None:
    """Nothing is charged and nothing is held."""
    usage, account = await rig.usage(), await rig.account()
    assert (usage.images_bought, usage.cost) == (0, 0)
    assert (account.day.images, account.day.held_images, account.day.cost) == (0, 0, 0)
    assert account.holds == {}


async def is_charged(rig: Rig, images: int = 2) -> None:
    """The images are charged as unknown, and nothing is held."""
    usage, account = await rig.usage(), await rig.account()
    assert (usage.images_bought, usage.images_unknown) == (images, images)
    assert usage.cost == images * 40_000
    assert (account.day.images, account.day.cost) == (images, images * 40_000)
    assert account.holds == {}


# -- the upstream -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "type", "code"),
    [
        (400, "image_generation_user_error", "moderation_blocked"),
        (404, "invalid_request_error", "model_not_found"),
        (422, "invalid_request_error", "unprocessable"),
        (429, "requests", "rate_limit_exceeded"),
    ],
)
async def test_what_the_upstream_refuses_comes_as_it_is_and_is_free(
    rig: Rig, status: int, type: str, code: str
) -> None:
    rig.sandbox.fault = Fault(kind="status", status=status)
    got = await rig.generate(await rig.key(), n=2)
    assert got.error == (status, type, code)
    assert got.headers["x-gateway-cost-usd"] == "0"
    assert retried(got) is (status == 429)
    assert ("Retry-After" in got.headers) is (status == 429)
    await is_free(rig)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("7", "7"),
        ("0", "1"),
        ("0.2", "1"),
        ("2.4", "3"),
        ("60", "60"),
        ("3600", "60"),
        ("-5", None),
        ("soon", None),
        ("1e3", None),
        ("", None),
    ],
)
async def test_a_429_keeps_its_wait_within_a_minute(rig: Rig, sent: str, told: str | None) -> None:
    headers = {"Retry-After": sent, "retry-after-ms": "900000"}
    rig.sandbox.fault = Fault(kind="status", status=429, headers=headers)
    got = await rig.generate(await rig.key())
    assert got.status == 429
    assert got.headers.get("Retry-After") == told
    assert "retry-after-ms" not in got.headers


@pytest.mark.parametrize(("ahead", "least", "most"), [(30, 28, 31), (3_600, 60, 60), (-60, 1, 1)])
async def test_a_429_may_say_its_wait_as_a_date(
    rig: Rig, ahead: float, least: int, most: int
) -> None:
    date = formatdate(time.time() + ahead, usegmt=True)
    rig.sandbox.fault = Fault(kind="status", status=429, headers={"Retry-After": date})
    got = await rig.generate(await rig.key())
    assert least <= int(got.headers["Retry-After"]) <= most


async def test_a_refusal_that_repeats_our_key_is_scrubbed(rig: Rig) -> None:
    rig.sandbox.fault = Fault(kind="echo_key")
    got = await rig.generate(await rig.key())
    assert got.error == (400, "invalid_request_error", "rejected")
    assert "[redacted]" in got.json["error"]["message"]
    assert UPSTREAM_KEY[-8:].encode() not in got.body
    await is_free(rig)


@pytest.mark.parametrize("body", ["", "<html>no</html>", "[]", '{"detail":"no"}', '{"error":"x"}'])
async def test_a_refusal_that_is_no_error_object_is_replaced_by_one(rig: Rig, body: str) -> None:
    rig.sandbox.fault = Fault(kind="status", status=400, body=body)
    got = await rig.generate(await rig.key())
    assert got.error == (400, "upstream_error", "upstream_refused")
    assert set(got.json["error"]) == {"message", "type", "param", "code"}


REDIRECTS = [301, 302, 303, 307, 308]
OTHER_4XX = [402, 405, 406, 409, 410, 411, 412, 413, 414, 415, 418, 423, 424, 425, 426, 428, 451]
EDGES = [408, 502, 504, *range(520, 528)]

STATUSES = {
    **dict.fromkeys([401, 403], (502, "upstream_auth", False, False)),
    **dict.fromkeys([*REDIRECTS, 300, 304, *OTHER_4XX], (502, "upstream_failed", False, False)),
    **dict.fromkeys([500, 503], (502, "upstream_failed", True, False)),
    **dict.fromkeys(EDGES, (502, "upstream_unknown", False, True)),
    # What the table does not name, and from which nobody can tell.
    **dict.fromkeys([201, 202, 204, 206, 501, 505, 529], (502, "upstream_unknown", False, True)),
}


@pytest.mark.parametrize("status", STATUSES)
async def test_every_other_status_has_its_row(rig: Rig, status: int) -> None:
    ours, code, again, charged = STATUSES[status]
    headers = {"Location": f"{rig.sandbox.url}{PATH}"} if 300 <= status < 400 else {}
    rig.sandbox.fault = Fault(kind="status", status=status, headers=headers)
    got = await rig.generate(await rig.key(), n=2)
    assert got.error == (ours, "upstream_error", code)
    assert retried(got) is again
    assert got.headers["x-gateway-cost-usd"] == ("0.08" if charged else "0")
    assert "Location" not in got.headers
    assert rig.sandbox.counts.asked == 1
    await (is_charged(rig) if charged else is_free(rig))


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(kind="not_json"), 502, "upstream_unknown"),
        (Fault(kind="no_image"), 502, "upstream_unknown"),
        (Fault(kind="empty_image"), 502, "upstream_unknown"),
        (Fault(kind="huge", bytes=3_000_000), 502, "upstream_unknown"),
        (Fault(kind="gzip_bomb", bytes=3_000_000), 502, "upstream_unknown"),
        (Fault(kind="status", status=200, body='{"error":{}}'), 502, "upstream_unknown"),
        (Fault(kind="cut_before_headers"), 502, "upstream_cut"),
        (Fault(kind="cut_in_body"), 502, "upstream_cut"),
        (Fault(kind="hang"), 504, "upstream_timeout"),
        (Fault(kind="slow_body", after=5.0), 504, "upstream_timeout"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
async def test_where_nobody_can_tell_it_is_charged_and_not_to_be_retried(
    rig: Rig, fault: Fault, status: int, code: str
) -> None:
    rig.sandbox.fault = fault
    got = await rig.generate(await rig.key(), n=2)
    assert got.error == (status, "upstream_error", code)
    assert not retried(got)
    assert got.headers["x-gateway-cost-usd"] == "0.08"
    assert "charged" in got.json["error"]["message"]
    assert rig.sandbox.counts.asked == 1
    await is_charged(rig)


async def test_an_upstream_that_is_not_there_costs_nothing(rig: Rig) -> None:
    key = await rig.key()
    await rig.sandbox.stop()
    got = await rig.generate(key)
    assert got.error == (503, "upstream_error", "upstream_unreachable")
    assert retried(got)
    await is_free(rig)


@pytest.mark.parametrize("scheme", ["http://nowhere.invalid", "https://127.0.0.1"])
async def test_neither_does_one_without_a_name_or_without_tls(tmp_path: Path, scheme: str) -> None:
    settings = SandboxSettings(api_key=UPSTREAM_KEY)
    async with running_rig(tmp_path, "", settings, UPSTREAM_BASE_URL=scheme) as rig:
        got = await rig.generate(await rig.key())
        assert got.error == (503, "upstream_error", "upstream_unreachable")
        assert retried(got)
        await is_free(rig)


async def test_a_failure_is_forgotten_at_once(rig: Rig) -> None:
    key = await rig.key()
    rig.sandbox.faults.extend(Fault(kind="status", status=status, times=1) for status in (500, 400))
    assert [(await rig.generate(key)).status for _ in range(3)] == [502, 400, 200]


# -- the caller and the request -----------------------------------------------------------------


async def test_without_a_key_it_is_401_with_its_challenge(rig: Rig) -> None:
    answer = await ask(rig.url, request_bytes())
    assert answer.error == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "house-style"}, "model"),
        ({"size": "1536x1024"}, "size"),
        ({"size": "auto"}, "size"),
        ({"quality": "high"}, "quality"),
        ({"quality": None}, "quality"),
        ({"n": 3}, "n"),
    ],
)
async def test_what_the_team_may_not_have_is_403(
    tmp_path: Path, fields: dict[str, object], param: str
) -> None:
    toml = FLAT + 'default = true\n[models."house-style"]\nprices = 0.01\n'
    async with running_rig(tmp_path, toml) as rig:
        key = await rig.key(
            models=("gpt-image-2",), sizes=("1024x1024",), qualities=("low",), max_n=2
        )
        assert (await rig.generate(key, quality="low", n=2)).status == 200
        got = await rig.post(key, json={"prompt": PROMPT, "quality": "low", **fields})
        assert got.error == (403, "permission_error", f"{param}_not_allowed")
        assert got.json["error"]["param"] == param
        assert "x-should-retry" not in got.headers
        assert rig.sandbox.counts.asked == 1


async def test_a_disabled_key_is_403(rig: Rig) -> None:
    key = await rig.key()
    await set_state(rig.gateway.store.directory, key_format.normal_id(key), "disabled")
    await rig.gateway.directory.refresh()
    assert (await rig.generate(key)).error == (403, "permission_error", "key_disabled")


@pytest.mark.parametrize(
    ("request_line", "status", "code"),
    [
        (("POST", PATH), 400, "invalid_json"),
        (("POST", "/nothing"), 404, "not_found"),
        (("GET", PATH), 405, "method_not_allowed"),
    ],
)
async def test_a_bad_request_is_told_once(
    rig: Rig, request_line: tuple[str, str], status: int, code: str
) -> None:
    method, target = request_line
    request = request_bytes(await rig.key(), method=method, target=target, body=b"{")
    answer = await ask(rig.url, request)
    assert answer.error == (status, code)
    assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
    assert "x-should-retry" not in answer.headers


async def test_only_if_cached_and_not_kept_is_504(rig: Rig) -> None:
    got = await rig.generate(await rig.key(), headers={"Cache-Control": "only-if-cached"})
    assert got.error == (504, "invalid_request_error", "not_cached")
    assert not retried(got)
    assert rig.sandbox.counts.asked == 0
    await is_free(rig)


# -- quota --------------------------------------------------------------------------------------

MIDNIGHT = "T00:00:00Z"


@pytest.mark.parametrize(
    ("limits", "which"),
    [
        (Limits(images_per_day=1), "images_per_day limit of 1 "),
        (Limits(images_per_month=1), "images_per_month limit of 1 "),
        (Limits(cost_per_day=40_000), "cost_per_day_usd limit of 0.04 "),
        (Limits(cost_per_month=79_999), "cost_per_month_usd limit of 0.079999 "),
    ],
)
async def test_a_budget_that_is_used_up_is_not_to_be_retried(
    rig: Rig, limits: Limits, which: str
) -> None:
    key = await rig.key(limits=limits)
    assert (await rig.generate(key)).status == 200
    got = await rig.generate(key, None)
    assert got.error == (429, "insufficient_quota", "insufficient_quota")
    assert not retried(got)
    assert "Retry-After" not in got.headers
    message = got.json["error"]["message"]
    assert message.startswith(f"Team team's {which}")
    assert "resets at" in message
    assert MIDNIGHT in message
    assert rig.sandbox.counts.asked == 1


async def test_the_gateways_own_budget_is_named_as_such(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, LIMITS_IMAGES_PER_DAY="1") as rig:
        assert (await rig.generate(await rig.key("a"))).status == 200
        got = await rig.generate(await rig.key("b"))
        assert got.error == (429, "insufficient_quota", "insufficient_quota")
        assert got.json["error"]["message"].startswith("The gateway's images_per_day limit of 1 ")


async def test_a_request_above_its_whole_limit_is_told_that(rig: Rig) -> None:
    key = await rig.key(limits=Limits(images_per_day=3))
    got = await rig.generate(key, n=4)
    assert got.error == (429, "insufficient_quota", "insufficient_quota")
    assert "smaller than this request" in got.json["error"]["message"]


async def test_images_that_open_calls_hold_count_as_used(rig: Rig) -> None:
    key = await rig.key(limits=Limits(images_per_day=1))
    got = await beside_an_open_call(rig, key)
    assert got.error == (429, "insufficient_quota", "insufficient_quota")
    assert not retried(got)


@pytest.mark.parametrize(
    ("limits", "least", "most"),
    [
        (Limits(concurrent_requests=1), 10.0, 12.0),
        (Limits(cost_per_day=79_999), 10.0, 12.0),
        (Limits(requests_per_minute=1), 58.0, 60.0),
    ],
)
async def test_what_passes_by_itself_says_when_to_come_back(
    rig: Rig, limits: Limits, least: float, most: float
) -> None:
    got = await beside_an_open_call(rig, await rig.key(limits=limits))
    assert got.error == (429, "rate_limit_error", "rate_limit_exceeded")
    assert retried(got)
    seconds, milliseconds = int(got.headers["Retry-After"]), int(got.headers["retry-after-ms"])
    assert least <= milliseconds / 1000 <= most
    assert 0 <= seconds * 1000 - milliseconds < 1000
    assert "is reached for now" in got.json["error"]["message"]


async def test_waits_are_spread_so_that_not_all_come_back_at_once(rig: Rig) -> None:
    key = await rig.key(limits=Limits(concurrent_requests=1))
    rig.sandbox.settings.latency = 0.6
    first = asyncio.create_task(rig.generate(key, None))
    await until(lambda: rig.sandbox.counts.in_flight == 1)
    refused = await asyncio.gather(*(rig.generate(key, None) for _ in range(20)))
    assert (await first).status == 200
    waits = [int(got.headers["retry-after-ms"]) for got in refused]
    assert all(10_000 <= wait <= 12_000 for wait in waits)
    assert len(set(waits)) > 10
    assert max(waits) - min(waits) > 500


async def beside_an_open_call(rig: Rig, key: str) -> Got:
    """What a request gets while another one of the team is upstream."""
    rig.sandbox.settings.latency = 0.5
    first = asyncio.create_task(rig.generate(key, None))
    await until(lambda: rig.sandbox.counts.in_flight == 1)
    got = await rig.generate(key, None)
    assert (await first).status == 200
    assert rig.sandbox.counts.asked == 1
    assert len((await rig.account()).holds) == 0
    return got


# -- capacity -----------------------------------------------------------------------------------


async def test_a_draining_gateway_buys_nothing_new(rig: Rig) -> None:
    key = await rig.key()
    await rig.generate(key, "kept")
    rig.gateway.proxy.draining = True
    got = await rig.generate(key, "new")
    assert got.error == (503, "server_error", "draining")
    assert retried(got)
    assert (await rig.generate(key, "kept")).headers["Cache-Status"] == "gateway; hit"
    assert rig.sandbox.counts.asked == 1


async def test_without_its_store_the_gateway_buys_nothing(rig: Rig, tmp_path: Path) -> None:
    key = await rig.key()
    await rig.generate(key, "kept")
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        got = await rig.generate(key, "new")
        assert got.error == (503, "server_error", "store_unavailable")
        assert retried(got)
        assert (await rig.generate(key, "kept")).headers["Cache-Status"] == "gateway; hit"
        assert (await rig.admin("/healthz")).status == 200
        other.execute("ROLLBACK")
    assert rig.sandbox.counts.asked == 1
    assert (await rig.generate(key, "new")).status == 200
    assert (await rig.account()).holds == {}
