"""Open and unknown purchases in the admin API, and their refunds."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.config.admin_tokens import mint, toml_block
from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.conformance.test_pictures import buyer
from tests.support.rig import FLAT, Got, Rig, running_rig
from tests.support.steps import metric, until_asked

VIEWER = mint(bytes)
LIMITS = Limits(images_per_day=10)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path, f"{FLAT}\n{toml_block('eyes', 'viewer', VIEWER)}") as rig:
        yield rig


async def cut(rig: Rig, key: str, n: int = 1, request_id: str = "") -> str:
    """Buy images whose delivery is cut, and return the request's id."""
    rig.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=1)
    headers = {"X-Request-Id": request_id} if request_id else {}
    got = await rig.generate(key, None, n=n, headers=headers)
    assert got.error == (502, "upstream_error", "upstream_cut")
    return got.headers["X-Request-Id"]


async def listed(rig: Rig, query: str = "") -> list[dict[str, Any]]:
    got = await rig.ask_admin("GET", f"purchases?{query}")
    assert got.status == 200
    found: list[dict[str, Any]] = got.json["purchases"]
    return found


async def refund(rig: Rig, id: str, token: str | None = None, **body: str) -> Got:
    named = {} if token is None else {"token": token}
    body = body or {"why": "not on the invoice"}
    return await rig.ask_admin("POST", f"purchases/{id}/refund", json=body, **named)


async def test_purchases_are_listed_shown_and_refunded(rig: Rig) -> None:
    key = await rig.key("red", limits=LIMITS)
    id = await cut(rig, key, 3)
    await rig.generate(key)
    (found,) = await listed(rig)
    now = datetime.now(UTC)
    assert 0 <= (now - datetime.fromisoformat(found.pop("at"))).total_seconds() < 60
    shown = {
        "id": id,
        "request_id": id,
        "state": "unknown",
        "team": "red",
        "key": key.partition("_")[0],
        "model": "gpt-image-2",
        "size": "1024x1024",
        "quality": "auto",
        "images": 3,
        "cost_usd": "0.12",
        "refunded": None,
    }
    assert found == shown
    await rig.assert_books(4, team="red")

    got = await refund(rig, id)
    assert got.status == 200
    assert (got.json["state"], got.json["images"], got.json["cost_usd"]) == ("refunded", 3, "0.12")
    refunded = got.json["refunded"]
    assert (refunded["who"], refunded["why"]) == ("admin token admin", "not on the invoice")
    assert (await rig.ask_admin("GET", f"purchases/{id}")).json == got.json
    await rig.assert_books(1, team="red")
    (row,) = (await rig.ask_admin("GET", "usage?by=team")).json
    assert (row["requests"], row["images_unknown"], row["cost_usd"]) == (2, 0, "0.04")
    (line, *_) = (await rig.ask_admin("GET", "audit?team=red")).json["changes"]
    assert (line["action"], line["after"]["why"]) == ("purchase.refund", "not on the invoice")
    # Counters of Prometheus never fall.
    assert await metric(rig, "gateway_cost_usd_total", team="red") == 0.16

    again = await refund(rig, id)
    assert again.error == (409, "invalid_request_error", "conflict")
    assert "already refunded by admin token admin at" in again.json["error"]["message"]
    # The whole budget of the day can be used again.
    assert (await rig.generate(key, None, n=9)).status == 200


async def test_a_clients_own_request_id_leads_to_its_purchase(rig: Rig) -> None:
    key = await rig.key()
    await cut(rig, key, request_id="order:7")
    await cut(rig, key, 2, request_id="mine")
    (second, first) = await listed(rig)
    assert (first["request_id"], second["request_id"]) == ("order:7", "mine")
    assert first["id"] != first["request_id"]
    assert await listed(rig, "id=order:7") == [first]
    assert (await rig.ask_admin("GET", "purchases/mine")).json == second
    assert (await refund(rig, "mine")).json["id"] == second["id"]
    # The same id of a client again is another purchase.
    await cut(rig, key, 4, request_id="mine")
    got = await refund(rig, "mine")
    assert got.error == (409, "invalid_request_error", "conflict")
    assert second["id"] in got.json["error"]["message"]
    await rig.assert_books(5)


async def test_open_purchases_are_shown_and_not_refunded(rig: Rig) -> None:
    key = await rig.key()
    rig.sandbox.settings.latency = 0.3
    asked = asyncio.create_task(rig.generate(key, n=2))
    await until_asked(rig, 1)
    (found,) = await listed(rig, "state=open")
    assert (found["images"], found["cost_usd"], found["state"]) == (2, "0.08", "open")
    assert await listed(rig, "state=unknown") == []
    got = await refund(rig, found["id"])
    assert got.error == (409, "invalid_request_error", "conflict")
    assert "is open" in got.json["error"]["message"]
    assert (await asked).headers["X-Request-Id"] == found["id"] == found["request_id"]
    assert await listed(rig) == []
    for got in (
        await refund(rig, found["id"]),
        await rig.ask_admin("GET", f"purchases/{found['id']}"),
    ):
        assert got.error == (409, "invalid_request_error", "conflict")
        assert "was bought" in got.json["error"]["message"]
    await rig.assert_books(2)


async def test_viewers_may_look_but_not_refund(rig: Rig) -> None:
    id = await cut(rig, await rig.key())
    for path in ("purchases", f"purchases/{id}"):
        assert (await rig.ask_admin("GET", path, VIEWER)).status == 200
    got = await refund(rig, id, VIEWER)
    assert got.error == (403, "permission_error", "role_not_allowed")
    assert (await refund(rig, id, "")).status == 401
    await rig.assert_books(1)


async def test_lists_are_filtered_and_have_pages(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    ids = [await cut(rig, key) for key in (red, blue, red)][::-1]
    await refund(rig, ids[2])
    assert [each["id"] for each in await listed(rig)] == ids
    assert [each["id"] for each in await listed(rig, "state=unknown")] == ids[:2]
    assert [each["id"] for each in await listed(rig, "state=refunded")] == ids[2:]
    assert [each["id"] for each in await listed(rig, "team=blue")] == [ids[1]]
    assert len(await listed(rig, f"since={datetime.now(UTC):%Y-%m-%d}")) == 3
    assert await listed(rig, "since=2999-01-01") == []
    found, query = list[str](), "limit=1"
    while query:
        page = (await rig.ask_admin("GET", f"purchases?{query}")).json
        found += [each["id"] for each in page["purchases"]]
        query = page["next"] and f"limit=1&before={page['next']}"
    assert found == ids


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("state=bought", "state"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("since=yesterday", "since"),
        ("before=later_x", "before"),
        ("before=nan_x", "before"),
    ],
)
async def test_a_wrong_query_is_refused(rig: Rig, query: str, fault: str) -> None:
    got = await rig.ask_admin("GET", f"purchases?{query}")
    assert got.status == 400
    assert got.json["error"]["param"] == fault


async def test_a_refund_needs_a_purchase_and_a_reason(rig: Rig) -> None:
    id = await cut(rig, await rig.key())
    for why in ("", " ", "a\nb", "x" * 301):
        got = await refund(rig, id, why=why)
        assert (got.status, got.json["error"]["param"]) == (400, "why")
    assert (await refund(rig, id, reason="x")).status == 400
    got = await refund(rig, "nobody")
    assert got.error == (404, "invalid_request_error", "no_such_thing")
    got = await rig.ask_admin("GET", "purchases?team=nobody")
    assert got.error == (404, "invalid_request_error", "no_such_thing")
    await rig.assert_books(1)


async def test_a_pictures_purchases_are_found_by_its_hash(rig: Rig) -> None:
    digest = "ab" * 32
    await rig.store.pictures.write([buyer("p1", digest), buyer("p2", digest)], None)
    got = await rig.ask_admin("GET", f"pictures/{digest.upper()}", VIEWER)
    assert [each["purchase"] for each in got.json["purchases"]] == ["p2", "p1"]
    assert got.json["purchases"][0]["cost_usd"] == "0.000005"
    got = await rig.ask_admin("GET", "pictures/unknown")
    assert (got.status, got.json) == (200, {"purchases": []})
