"""The line of a request: its fields, and that there is one for every outcome."""

import asyncio
from collections.abc import Iterator, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.core.key_format import PREFIX
from gateway.core.model import Caller, ImageRequest, Key, Limits, Team
from gateway.core.upstream_errors import UpstreamFailed
from gateway.telemetry.metrics import OUTCOMES
from gateway.telemetry.request_record import RequestRecord
from gateway.web.access_log import GRAVE, AccessLog
from tests.support.rig import PROMPT, Rig, running_rig

CALLER = Caller(Team(name="design"), Key(id="k1", team="design", name="", digest=b"", created=0))
REQUEST = ImageRequest(model="m", prompt=PROMPT, size="1024x1024", n=2, quality=None, body={})

Lines = list[MutableMapping[str, Any]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with capture_logs() as captured:
        yield captured


def test_a_purchase_has_its_team_request_and_cost(lines: Lines) -> None:
    record = RequestRecord(
        id="r1",
        started=0.0,
        caller=CALLER,
        request=REQUEST,
        outcome="miss",
        status=200,
        images=2,
        cost=80_000,
        waited=1.5,
        upstream=1.25,
    )
    AccessLog().request_ended(record, 1.75)
    (line,) = lines
    assert (line.pop("event"), line.pop("log_level"), line.pop("source")) == (
        "request",
        "info",
        "request",
    )
    assert (line.pop("id"), line.pop("team"), line.pop("key")) == ("r1", "design", "sk-gw-k1")
    assert (line.pop("route"), line.pop("model"), line.pop("images")) == (None, "m", 2)
    assert (line.pop("outcome"), line.pop("status"), line.pop("code")) == ("miss", 200, None)
    assert (line.pop("cost_usd"), line.pop("saved_usd")) == ("0.08", "0")
    assert line == {"total_ms": 1750.0, "own_ms": 250.0, "upstream_ms": 1250.0}


async def test_every_outcome_has_one_line_without_prompt_and_key(rig: Rig, lines: Lines) -> None:
    key = await rig.key(limits=Limits(images_per_day=2))
    await rig.generate(key)
    await rig.generate(key)
    await rig.generate(key, n=2)
    await rig.generate(key, n=99)
    await rig.generate(key, None, headers={"Cache-Control": "only-if-cached"})
    await rig.generate("sk-gw-wrong")
    await rig.get("/v1/models", key)
    await rig.get("/v1/nothing", key)
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["outcome"] for line in requests] == [
        "miss",
        "hit",
        "insufficient_quota",
        "invalid_request",
        "not_cached",
        "unauthenticated",
        "models",
        "not_found",
    ]
    assert [line["route"] for line in requests] == [None] * 6 + ["models", "unknown"]
    counts = rig.gateway.metrics.registry.get_sample_value
    for line in requests:  # each is counted once, too
        labels = {"team": line["team"] or "", "outcome": line["outcome"]}
        assert counts("gateway_requests_total", labels) == 1
    assert {line["key"] for line in requests[:5]} == {key.partition("_")[0]}
    stranger = requests[5]
    assert (stranger["team"], stranger["key"], stranger["model"]) == (None, None, None)
    assert (requests[0]["images"], requests[0]["cost_usd"] != "0") == (1, True)
    assert requests[1]["saved_usd"] == requests[0]["cost_usd"]
    text = str(lines)
    assert key not in text
    assert key.split("_")[1] not in text
    assert PROMPT not in text


async def test_a_refusal_has_its_limit_for_all_who_share_it(rig: Rig, lines: Lines) -> None:
    key = await rig.key(limits=Limits(images_per_day=3))
    await rig.generate(key, None)
    answers = await asyncio.gather(*(rig.generate(key, n=3) for _ in range(3)))
    assert [got.status for got in answers] == [429] * 3
    refused = [line["refused_by"] for line in lines if line.get("status") == 429]
    resets_at = refused[0]["resets_at"]
    assert resets_at.endswith("T00:00:00Z")
    assert (
        refused
        == [
            {
                "scope": "team",
                "owner": "team",
                "limit": "images_per_day",
                "size": 3,
                "used": 1,
                "held": 0,
                "asked": 3,
                "resets_at": resets_at,
                "wait_seconds": None,
            }
        ]
        * 3
    )
    assert "refused_by" not in lines[0]


async def test_the_gateways_usage_is_in_the_log_and_in_no_answer(
    tmp_path: Path, lines: Lines
) -> None:
    async with running_rig(tmp_path, LIMITS_IMAGES_PER_DAY="12") as rig:
        await rig.generate(await rig.key("red"), n=7)
        got = await rig.generate(await rig.key("blue"), n=6)
    (refused,) = [line["refused_by"] for line in lines if line.get("status") == 429]
    assert (refused["scope"], refused["owner"], refused["used"]) == ("gateway", None, 7)
    assert "7" not in got.json["error"]["message"].partition("resets at")[0]
    assert "refused_by" not in str(got.json)


def test_grave_outcomes_are_warnings(lines: Lines) -> None:
    for outcome in ("upstream_auth", "upstream_refused"):
        AccessLog().request_ended(RequestRecord(id="r1", started=0.0, outcome=outcome), 0.1)
    assert [line["log_level"] for line in lines] == ["warning", "info"]
    assert set(OUTCOMES) >= GRAVE


def test_a_failed_purchase_has_the_upstreams_status_and_reason(lines: Lines) -> None:
    record = RequestRecord(id="r1", started=0.0, caller=CALLER, request=REQUEST)
    record.failed(UpstreamFailed(retry=True, upstream_status=500, reason=f"No {PROMPT}"))
    AccessLog().request_ended(record, 0.1)
    AccessLog().late_purchase_ended(record, None)
    for line in lines:
        assert (line["outcome"], line["upstream_status"]) == ("upstream_failed", 500)
        assert line["reason"] == "No [redacted]"


def test_more_images_than_asked_for_are_logged(lines: Lines) -> None:
    record = RequestRecord(
        id="r1", started=0.0, caller=CALLER, request=REQUEST, images=5, cost=200_000
    )
    AccessLog().excess_delivered(record)
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("more images than asked for", "warning")
    assert (line["id"], line["team"], line["asked"], line["images"], line["cost_usd"]) == (
        *("r1", "design", 2, 5),
        "0.2",
    )


def test_charges_by_the_table_are_logged_once_a_minute(lines: Lines) -> None:
    access_log = AccessLog()
    for at in (0.5, 1.0, 60.0, 60.5, 61.0, 200.0):
        clock = partial(float, at)
        record = RequestRecord(id=f"r{at}", started=0.0, request=REQUEST, clock=clock)
        access_log.usage_fell_back(record)
    assert [(line["id"], line["model"], line["purchases"]) for line in lines] == [
        ("r0.5", "m", 1),
        ("r60.5", "m", 3),
        ("r200.0", "m", 2),
    ]


def test_a_purchase_that_ends_without_its_client_has_its_own_line(lines: Lines) -> None:
    record = RequestRecord(id="r1", started=0.0, caller=CALLER, images=1, cost=6_000)
    AccessLog().late_purchase_ended(record, ValueError())
    (line,) = lines
    assert line["event"] == "purchase ended without its client"
    assert line["key"] == PREFIX + CALLER.key.id
    assert (line["id"], line["team"], line["images"], line["cost_usd"]) == (
        "r1",
        "design",
        1,
        "0.006",
    )
    assert isinstance(line["exc_info"], ValueError)
