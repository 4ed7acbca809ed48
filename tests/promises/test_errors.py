"""The error table, row by row: status, type, code, headers, and what each row costs.

After each row the account, the usage entries and the answer's own cost agree; nothing is held, the
failure is not kept, and no less is recorded than the upstream drew.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from gateway.core.model import Limits
from gateway.core.money import format_usd
from gateway.upstream.sandbox import UpstreamFault
from tests.support.rig import FLAT, PRICE, UPSTREAM_KEY, Got, Rig, running_rig
from tests.support.steps import TOO_MUCH_AT_ONCE, USED_UP, until

N = 3
"""Images in each request, so that a charge for one would be seen."""

IMPATIENT: dict[str, Any] = {
    "UPSTREAM_CONNECT_SECONDS": "0.9",
    "UPSTREAM_TIMEOUT_SECONDS": "2",
    "UPSTREAM_MAX_RESPONSE_BYTES": "200000",
}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway that soon gives up waiting for its upstream; every image costs $0.04."""
    async with running_rig(tmp_path, FLAT, **IMPATIENT) as running:
        yield running


def retried(got: Got) -> bool:
    """Whether an SDK would send the request again."""
    assert got.headers.get("x-should-retry") in (None, "false")
    return got.status in (429, 500, 502, 503, 504) and "x-should-retry" not in got.headers


# -- the upstream -------------------------------------------------------------------------------


class Row(Struct, frozen=True):
    """A row of the error table: the fault, and the answer to the caller.

    `wait` has the values of Retry-After and retry-after-ms. `says` is part of the message.
    """

    fault: UpstreamFault
    status: int
    type: str
    code: str
    charged: bool = False
    retry: bool = True
    wait: tuple[str, str] | None = None
    says: str = ""


def status(number: int, body: str | None = None, **headers: str) -> UpstreamFault:
    """An upstream that answers so. `headers` have underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return UpstreamFault(kind="status", status=number, body=body, headers=named)


def coded(code: str, message: str = "No.", type: str = "invalid_request_error") -> str:
    return json.dumps({"error": {"message": message, "type": type, "param": None, "code": code}})


FAILED = "upstream_error", "upstream_failed"
AUTH = "upstream_error", "upstream_auth"
EXHAUSTED = "upstream_error", "upstream_account_exhausted"
MODERATED = "image_generation_user_error", "moderation_blocked"


def unknown(
    fault: UpstreamFault, status: int = 502, code: str = "upstream_unknown", says: str = ""
) -> Row:
    """The upstream may have drawn: it is charged, and must not be sent again."""
    return Row(fault, status, "upstream_error", code, charged=True, retry=False, says=says)


def kept(fault: UpstreamFault, reason: str) -> Row:
    """A refusal that is not passed on, but its reason is."""
    says = f"The upstream answered {fault.status}: {reason}"
    return Row(fault, 502, *FAILED, retry=False, says=says)


ROWS = {
    "400": Row(status(400), 400, *MODERATED),
    "404": Row(status(404), 404, "invalid_request_error", "model_not_found"),
    "422": Row(status(422), 422, "invalid_request_error", "unprocessable"),
    "429": Row(status(429), 429, "requests", "rate_limit_exceeded", wait=("7", "7000")),
    "429 with milliseconds": Row(
        status(429, Retry_After="", retry_after_ms="1500"),
        *(429, "requests", "rate_limit_exceeded"),
        wait=("2", "1500"),
    ),
    "429 with a wait of an hour": Row(
        status(429, Retry_After="3600"),
        *(429, "requests", "rate_limit_exceeded"),
        wait=("59", "59000"),
    ),
    "403 about content": Row(
        status(403, coded("content_policy_violation")),
        *(403, "invalid_request_error", "content_policy_violation"),
        says="No.",
    ),
    "400 in another shape": Row(
        status(400, '{"detail":[{"loc":["body","size"],"msg":"Too wide.","type":"size_error"}]}'),
        *(400, "upstream_error", "size_error"),
        says="body.size: Too wide.",
    ),
    "400 with our key in it": Row(
        UpstreamFault(kind="echo_key"), 400, "invalid_request_error", "rejected"
    ),
    "400 that is a page": Row(
        status(400, body="<html>"), 400, "upstream_error", "upstream_refused"
    ),
    **{f"{each}": Row(status(each), 502, *AUTH, retry=False) for each in (401, 403)},
    **{
        name: Row(fault, 503, *EXHAUSTED, retry=False, says="account at the upstream")
        for name, fault in {
            "402": status(402),
            "429 insufficient_quota": status(429, coded("insufficient_quota")),
            "400 billing_hard_limit_reached": status(400, coded("billing_hard_limit_reached")),
        }.items()
    },
    **{
        f"{each}": Row(
            status(each), 502, *FAILED, retry=False, says=f"The upstream answered {each}."
        )
        for each in (409, 302, 307)
    },
    "413": kept(status(413, '{"error":"Too large."}'), "Too large."),
    "413 with our key in it": kept(
        status(413, f"<title>Key {UPSTREAM_KEY} is small</title>"), "Key [redacted] is small"
    ),
    "415": kept(status(415, '{"title":"No","detail":"Send JSON."}'), "No: Send JSON."),
    "451": kept(status(451, "Not in your country."), "Not in your country."),
    **{
        f"{each}": Row(status(each), 502, *FAILED, says=f"answered {each}: The ")
        for each in (500, 503)
    },
    "503 with a wait": Row(
        status(503, Retry_After="9"), 503, *FAILED, wait=("9", "9000"), says="overloaded"
    ),
    **{f"{each}": unknown(status(each)) for each in (408, 502, 504, 520, 527, 501, 204)},
    "no JSON": unknown(UpstreamFault(kind="not_json")),
    "an error with status 200": unknown(status(200, coded("server_error", "Odd.")), says="Odd."),
    "a refusal with status 200": Row(
        status(200, coded("moderation_blocked")), 502, *FAILED, retry=False, says="No."
    ),
    "no credit with status 200": Row(
        status(200, coded("insufficient_quota")), 502, *EXHAUSTED, retry=False, says="No."
    ),
    "no image": unknown(UpstreamFault(kind="no_image")),
    "empty image": unknown(UpstreamFault(kind="empty_image")),
    "too long": unknown(UpstreamFault(kind="huge", bytes=400_000)),
    "gzip bomb": unknown(UpstreamFault(kind="gzip_bomb", bytes=5_000_000)),
    "cut before the headers": unknown(
        UpstreamFault(kind="cut_before_headers"), 502, "upstream_cut"
    ),
    "cut in the body": unknown(UpstreamFault(kind="cut_in_body"), 502, "upstream_cut"),
    "no answer in time": unknown(UpstreamFault(kind="hang"), 504, "upstream_timeout"),
    "the body not in time": unknown(
        UpstreamFault(kind="slow_body", after=60), 504, "upstream_timeout"
    ),
}


def assert_error(got: Got, row: Row) -> None:
    assert got.error == (row.status, row.type, row.code)
    assert got.headers.get("x-should-retry") == (None if row.retry else "false")
    waits = got.headers.get("Retry-After"), got.headers.get("retry-after-ms")
    assert waits == (row.wait or (None, None))
    assert row.says in got.json["error"]["message"]
    assert "Location" not in got.headers
    assert UPSTREAM_KEY[-8:].encode() not in got.body
    assert got.headers["x-gateway-cost-usd"] == format_usd(N * PRICE if row.charged else 0)


@pytest.mark.parametrize("case", ROWS)
async def test_a_failure_has_its_row_and_its_cost(rig: Rig, case: str) -> None:
    row, key = ROWS[case], await rig.key()
    rig.sandbox.fault = row.fault
    got = await rig.generate(key, n=N)
    rig.sandbox.fault = None
    assert_error(got, row)
    if row.charged:
        assert "charged" in got.json["error"]["message"]
    charged = N if row.charged else 0
    await rig.assert_books(charged)
    assert (await rig.usage("team")).images_unknown == charged
    assert charged >= rig.sandbox.counts.images_drawn
    # The failure was not kept: the same request is bought, and that answer is kept. After an
    # unclear outcome its client has to ask for that.
    anew = {}
    if row.charged:
        assert_repeated(await rig.generate(key, n=N), got)
        anew["Cache-Control"] = "no-cache"
    assert (await rig.generate(key, n=N, headers=anew)).headers["x-gateway-cost-usd"] == "0.12"
    assert (await rig.generate(key, n=N)).headers["Cache-Status"] == "gateway; hit"
    assert rig.sandbox.counts.asked == 2
    await rig.assert_books(charged + N)


def assert_repeated(got: Got, first: Got) -> None:
    """A repeat has the status and code of the first attempt, and costs nothing."""
    assert (got.status, got.error, retried(got)) == (first.status, first.error, False)
    assert "Retry-After" not in got.headers
    assert got.headers["x-gateway-cost-usd"] == "0"
    message = got.json["error"]["message"]
    assert "was charged at 20" in message
    assert f"(request id {first.headers['X-Request-Id']})" in message
    assert "for another 60 seconds" in message or "for another 59 seconds" in message
    assert "'Cache-Control: no-cache'" in message
    assert message.endswith("This request was not charged.")


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


# -- no connection ------------------------------------------------------------------------------


async def test_without_a_connection_nothing_is_charged(rig: Rig) -> None:
    await rig.sandbox.close()
    key = await rig.key()
    for _ in range(2):
        got = await rig.generate(key, n=N)
        assert_error(got, Row(status(0), 503, "upstream_error", "upstream_unreachable"))
    await rig.assert_books(0)
    assert (await rig.usage("team")).requests == 2


# -- quota --------------------------------------------------------------------------------------


async def test_a_budget_that_is_used_up_is_not_to_be_retried(rig: Rig) -> None:
    key = await rig.key(limits=Limits(cost_per_month=79_999))
    assert (await rig.generate(key)).status == 200
    got = await rig.generate(key, None)
    assert got.error == USED_UP
    assert not retried(got)
    assert "Retry-After" not in got.headers
    message = got.json["error"]["message"]
    assert message.startswith("Team team's cost_per_month_usd limit of 0.079999 ")
    assert "resets at" in message
    assert "T00:00:00Z" in message
    assert rig.sandbox.counts.asked == 1


async def test_the_gateways_own_budget_is_named_as_such(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, LIMITS_IMAGES_PER_DAY="1") as rig:
        assert (await rig.generate(await rig.key("a"))).status == 200
        got = await rig.generate(await rig.key("b"))
        assert got.error == USED_UP
        assert got.json["error"]["message"].startswith("The gateway's images_per_day limit of 1 ")


@pytest.mark.parametrize(
    ("limits", "least", "most"),
    [
        (Limits(concurrent_requests=1), 10.0, 12.0),
        (Limits(cost_per_day=79_999), 10.0, 12.0),
        (Limits(requests_per_minute=1), 58.0, 59.0),
    ],
)
async def test_a_limit_that_passes_says_when_to_come_back(
    rig: Rig, limits: Limits, least: float, most: float
) -> None:
    got = await beside_an_open_call(rig, await rig.key(limits=limits))
    assert got.error == TOO_MUCH_AT_ONCE
    assert retried(got)
    seconds, milliseconds = int(got.headers["Retry-After"]), int(got.headers["retry-after-ms"])
    assert least <= milliseconds / 1000 <= most
    assert 0 <= seconds * 1000 - milliseconds < 1000
    assert "is reached for now" in got.json["error"]["message"]


async def beside_an_open_call(rig: Rig, key: str) -> Got:
    """The answer to a request while another one of the team is upstream."""
    rig.sandbox.settings.latency = 1
    first = asyncio.create_task(rig.generate(key, None))
    await until(lambda: rig.sandbox.counts.in_flight == 1)
    got = await rig.generate(key, None)
    assert (await first).status == 200
    assert rig.sandbox.counts.asked == 1
    assert len((await rig.account()).holds) == 0
    return got
