"""Recent requests, errors by kind, the most repeated requests and the overview in the admin API."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.listing import public_type
from gateway.core.model import Limits
from gateway.reporting.overview import Overview
from gateway.upstream.sandbox import UpstreamFault
from tests.support.rig import PROMPT, Rig, running_rig

JSON = dict[str, Any]


async def activity(rig: Rig, query: str = "") -> list[JSON]:
    return await listed(rig, f"activity?{query}", "requests")


async def top(rig: Rig, query: str = "") -> list[JSON]:
    return await listed(rig, f"cache/top?{query}", "entries")


async def listed(rig: Rig, path: str, name: str) -> list[JSON]:
    got = await rig.ask_admin("GET", path)
    assert got.status == 200
    found: list[JSON] = got.json[name]
    return found


async def test_each_request_has_a_line(rig: Rig) -> None:
    key = await rig.key("red", limits=Limits(images_per_day=1))
    for prompt in (PROMPT, PROMPT, "another"):
        await rig.generate(key, prompt)
    await rig.generate("sk-gw-wrong")
    for path in ("quota", "nothing"):
        assert (await rig.get(f"/v1/{path}", "sk-gw-wrong")).status in (401, 404)
    unknown, quota, stranger, refused, hit, miss = await activity(rig)
    assert [one["outcome"] for one in (stranger, refused, hit, miss)] == [
        "unauthenticated",
        "insufficient_quota",
        "hit",
        "miss",
    ]
    assert [one["route"] for one in (unknown, quota, stranger)] == ["unknown", "quota", None]
    assert miss["cost_usd"] == hit["saved_usd"] != "0"
    assert miss["team"] == refused["team"] == "red"
    assert miss["key"] == key.partition("_")[0]
    assert (miss["model"], miss["size"], miss["quality"]) == ("gpt-image-2", "1024x1024", "auto")
    assert miss["upstream_ms"] <= miss["total_ms"]
    assert (hit["upstream_ms"], hit["fingerprint"]) == (None, miss["fingerprint"])
    assert len(miss["fingerprint"]) == 16
    assert (refused["status"], refused["code"]) == (429, "insufficient_quota")
    by = refused["refused_by"]
    assert (by["scope"], by["owner"], by["limit"]) == ("team", "red", "images_per_day")
    assert (by["used"], by["held"], by["size"], by["asked"]) == (1, 0, 1, 1)
    assert by["resets_at"].endswith("T00:00:00Z")
    assert (miss["refused_by"], miss["upstream_status"], miss["reason"]) == (None, None, None)
    assert (stranger["team"], stranger["key"], stranger["fingerprint"]) == (None, None, None)
    assert {one["requests"] for one in (stranger, refused, hit, miss)} == {1}


async def test_a_failed_purchase_has_what_the_upstream_answered(rig: Rig) -> None:
    key = await rig.key("red")
    for status in (400, 418, 500, 504):
        body = json.dumps({"error": {"message": f"No room for <{PROMPT}>."}})
        rig.sandbox.fault = UpstreamFault(kind="status", status=status, times=1, body=body)
        assert PROMPT in str((await rig.generate(key)).json)
        failed = (await activity(rig))[0]
        assert (failed["upstream_status"], failed["reason"]) == (
            status,
            "No room for <[redacted]>.",
        )
    assert PROMPT not in str(await activity(rig))


async def test_requests_are_filtered(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    await rig.generate(red, headers={"X-Request-Id": "look-for-me"})
    await rig.generate(red, n=99)
    await rig.generate(blue)
    (found,) = await activity(rig, "id=look-for-me")
    assert found["outcome"] == "miss"
    assert [one["team"] for one in await activity(rig, "team=blue")] == ["blue"]
    assert len(await activity(rig, f"key={red.partition('_')[0]}")) == 2
    assert len(await activity(rig, "outcome=miss")) == 2
    (wrong,) = await activity(rig, "errors=true")
    assert (wrong["team"], wrong["code"]) == ("red", "integer_above_max_value")
    today = found["at"][:10]
    assert len(await activity(rig, f"from={today}&to={today}")) == 3
    assert len(await activity(rig, f"from={found['at']}")) == 3
    assert await activity(rig, f"to={found['at']}") == []


async def test_a_page_names_the_next_one(rig: Rig) -> None:
    key = await rig.key()
    for id in ("a", "b", "c"):
        await rig.generate(key, headers={"X-Request-Id": id})
    found = list[str]()
    query = "limit=2"
    while query:
        page = (await rig.ask_admin("GET", f"activity?{query}")).json
        found += [one["id"] for one in page["requests"]]
        await rig.generate(key)
        query = page["next"] and f"limit=2&before={page['next']}"
    assert found == ["c", "b", "a"]


async def test_errors_are_counted_by_kind(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    for _ in range(3):
        await rig.generate(red, n=99)
    await rig.generate(blue, n=99, headers={"X-Request-Id": "last"})
    await rig.generate("sk-gw-wrong")
    kinds = (await rig.ask_admin("GET", "errors?from=2020-01-01")).json["kinds"]
    assert [(kind["outcome"], kind["requests"]) for kind in kinds] == [
        ("invalid_request", 4),
        ("unauthenticated", 1),
    ]
    assert (kinds[0]["last_id"], kinds[0]["status"], kinds[0]["code"]) == (
        "last",
        400,
        "integer_above_max_value",
    )
    (of_red,) = (await rig.ask_admin("GET", "errors?from=2020-01-01&team=red")).json["kinds"]
    assert of_red["requests"] == 3
    assert (await rig.ask_admin("GET", "errors?to=2020-01-01")).json["kinds"] == []


# -- the most repeated --------------------------------------------------------------------------


async def test_the_most_repeated_requests_come_first_without_prompts(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    for key, prompt, times in ((red, "once", 1), (red, "often", 5), (blue, "twice", 3)):
        for _ in range(times):
            assert (await rig.generate(key, prompt)).status == 200
    often, twice = await top(rig)
    assert (often["team"], often["hits"], often["prompt"]) == ("red", 4, None)
    assert (twice["team"], twice["hits"]) == ("blue", 2)
    assert (often["model"], often["size"], often["quality"]) == ("gpt-image-2", "1024x1024", "auto")
    (shown, *_) = await activity(rig, "outcome=hit&team=red")
    assert often["fingerprint"].startswith(shown["fingerprint"])
    assert often["bytes"] > 0
    assert 0 <= often["age_seconds"] < often["expires_seconds"]
    assert [entry["hits"] for entry in await top(rig, "limit=1")] == [4]


async def test_prompts_are_shown_where_an_operator_allows_them(tmp_path: Path) -> None:
    async with running_rig(tmp_path, ADMIN_SHOW_PROMPTS="true") as rig:
        key = await rig.key()
        for _ in range(2):
            await rig.generate(key, "ä" * 300)
        (entry,) = await top(rig)
        assert entry["prompt"] == "ä" * 200


async def test_an_answer_kept_over_a_restart_is_listed_once_it_is_hit(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        key = await rig.key()
        await rig.generate(key)
    async with running_rig(tmp_path, UPSTREAM_BASE_URL=rig.sandbox.url) as rig:
        assert await top(rig) == []
        for _ in range(2):  # the first one brings it back into memory
            await rig.generate(key)
        (entry,) = await top(rig)
        assert (entry["hits"], entry["team"]) == (1, "team")


# -- the overview --------------------------------------------------------------------------------


async def test_the_overview_has_the_spend_of_today(rig: Rig) -> None:
    key = await rig.key("red")
    for _ in range(2):
        assert (await rig.generate(key, "kept")).status == 200
    assert (await rig.generate(key, " ")).status == 400
    await rig.gateway.flush()
    got = await rig.ask_admin("GET", "overview")
    page = msgspec.json.decode(got.body, type=public_type(Overview))
    assert page.to == datetime.now(UTC).date().isoformat()
    assert (len(page.days), page.days[-1]) == (30, page.to)
    assert (page.now.images_bought, page.now.images_cached, page.now.hit_ratio) == (1, 1, 0.5)
    assert (page.now.requests, page.now.requests_refused) == (2, 1)
    assert page.series[0].cost_usd[-1] == page.now.cost_usd == page.teams[0].cost_usd
    assert page.keys[0].key == key.partition("_")[0]
    assert page.before.hit_ratio is None
    hourly = (await rig.ask_admin("GET", f"overview?from={page.to}&to={page.to}")).json
    assert all(at.startswith(page.to) and at.endswith(":00:00Z") for at in hourly["days"])
    none = (await rig.ask_admin("GET", "overview?team=blue&to=2026-01-31")).json
    assert (none["from"], none["series"]) == ("2026-01-02", [])
