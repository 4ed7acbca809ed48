"""Finished requests are collected for the request history."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.config.settings import Settings
from gateway.core.model import Caller, ImageRequest, Key, Team
from gateway.reporting.request_history import LINES_AT_ONCE, LINES_EACH, RequestHistory
from gateway.reporting.request_lines import ErrorKind, HourLatency, LineFilter, RequestLine, time_of
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.request_record import RequestRecord
from tests.reporting.test_request_lines import LINE
from tests.support.faulty_store import FaultyStore
from tests.support.quota_steps import NOON

PROMPT = "a secret apple"
FINGERPRINT = "0123456789abcdef" * 4


class Bench:
    """A request history in front of a store that may fail, and its clock."""

    def __init__(self, sqlite: SqliteStore) -> None:
        self.sqlite = sqlite
        self.store = FaultyStore(sqlite)
        self.now = NOON
        self.keep = 10_000
        self.history = RequestHistory(
            self.store.history, settings=self.settings, wall=lambda: self.now, writer="0123abcd"
        )

    def settings(self) -> Settings:
        defaults = Settings()
        return replace(defaults, activity=replace(defaults.activity, keep_requests=self.keep))

    async def lines(self) -> list[RequestLine]:
        await self.history.flush()
        return await self.sqlite.history.lines(LineFilter(), 100_000)

    async def errors(self) -> list[ErrorKind]:
        await self.history.flush()
        return await self.sqlite.history.errors(NOON, NOON + 3_600)

    async def latency(self) -> list[HourLatency]:
        await self.history.flush()
        return await self.sqlite.history.latency(NOON, NOON + 3_600)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with SqliteStore(tmp_path / "gateway.db") as sqlite:
        yield Bench(sqlite)


def without_key(id: str = "r", **fields: Any) -> RequestRecord:
    """A request without a known key."""
    values = {"outcome": "unauthenticated", "status": 401, "code": "invalid_api_key", **fields}
    return RequestRecord(id=id, started=0.0, **values)


def hit(id: str = "r", team: str = "red", **fields: Any) -> RequestRecord:
    """A cache hit, unless `fields` say otherwise."""
    key = Key(id=f"k-{team}", team=team, name="", digest=b"", created=0)
    request = ImageRequest(
        model="m", prompt=PROMPT, size="1024x1024", n=1, quality=None, body={"prompt": PROMPT}
    )
    values = {"caller": Caller(Team(name=team), key), "request": request, "outcome": "hit"}
    return RequestRecord(
        id=id, started=0.0, fingerprint=FINGERPRINT, **{"status": 200, **values, **fields}
    )


def bought(id: str = "r", **fields: Any) -> RequestRecord:
    values = {"outcome": "miss", "images": 1, "cost": 40_000, "upstream": 20.0, "waited": 20.5}
    return hit(id, **{**values, **fields})


async def test_a_line_holds_everything_but_the_prompt(bench: Bench) -> None:
    bench.history.request_ended(bought(), 21.0)
    (line,) = await bench.lines()
    assert line == RequestLine(
        place=line.place,
        id="r",
        team="red",
        key="k-red",
        model="m",
        size="1024x1024",
        quality="auto",
        outcome="miss",
        status=200,
        code=None,
        requests=1,
        images=1,
        cost=40_000,
        saved=0,
        total=21.0,
        own=0.5,
        upstream=20.0,
        fingerprint="0123456789abcdef",
    )
    assert time_of(line.place) == NOON


async def test_similar_requests_in_a_second_share_a_line(bench: Bench) -> None:
    for number in range(500):
        bench.history.request_ended(hit(str(number), images=2, saved=7, waited=1.0), 3.0)
    for number in range(3):
        bench.history.request_ended(hit(f"blue-{number}", team="blue"), 1.0)
    lines = await bench.lines()
    red = [line for line in lines if line.team == "red"]
    (shared,) = [line for line in red if line.requests > 1]
    assert len(red) == LINES_EACH + 1
    assert (shared.requests, shared.id) == (500 - LINES_EACH, "499")
    assert (shared.images, shared.saved) == (2 * shared.requests, 7 * shared.requests)
    assert (shared.total, shared.own, shared.fingerprint) == (3.0, 2.0, None)
    assert len(lines) - len(red) == 3
    for number in range(2 * LINES_EACH):  # a second later; calls to the upstream share no line
        bench.history.request_ended(bought(str(number)), 21.0)
    bench.history.request_ended(hit(), 1.0)
    assert len(await bench.lines()) == len(lines) + 2 * LINES_EACH + 1


async def test_a_flood_without_keys_displaces_no_other_lines(bench: Bench) -> None:
    bench.keep = 100
    bench.history.request_ended(bought(), 21.0)
    for second in range(300):
        bench.now = NOON + second
        bench.history.request_ended(without_key(), 0.001)
        await bench.history.flush()
    for number in range(300):
        bench.history.request_ended(without_key(str(number)), 0.001)
    lines = await bench.lines()
    assert len(lines) < 30
    assert lines[-1].outcome == "miss"
    assert (lines[0].requests, lines[0].id, lines[0].team, lines[0].key) == (300, "299", None, None)


async def test_errors_and_latency_count_requests_without_a_line(bench: Bench) -> None:
    bench.history.request_ended(hit(), 1.0)
    assert len(await bench.lines()) == 1
    bench.keep = 0  # deletes the lines as well
    for number in range(50):
        bench.history.request_ended(
            hit(str(number), outcome="rate_limited", status=429, code="x"), 0.002
        )
        bench.history.request_ended(without_key(), 0.001)
    bench.history.request_ended(bought(), 20.6)
    assert await bench.lines() == []
    assert [(kind.outcome, kind.requests, kind.last_id) for kind in await bench.errors()] == [
        ("rate_limited", 50, "49"),
        ("unauthenticated", 50, "r"),
    ]
    (latency,) = await bench.latency()
    assert (latency.own.count, latency.upstream.count) == (52, 1)
    assert latency.own.micros == pytest.approx(1_000_000 + 50 * 2_000 + 100_000)
    assert latency.upstream.mean_ms == 20_000


async def test_requests_for_no_image_are_left_out(bench: Bench) -> None:
    for outcome in ("models", "preflight", "quota", "usage"):
        bench.history.request_ended(hit(outcome=outcome, request=None), 0.001)
    assert await bench.lines() == []
    assert await bench.latency() == []
    assert bench.store.asked["write"] == 0


async def test_lines_and_memory_are_bounded(bench: Bench) -> None:
    for number in range(3 * LINES_AT_ONCE):
        bench.history.request_ended(bought(str(number)), 21.0)
        bench.history.request_ended(hit(team=f"team-{number}"), 0.001)
    lines = await bench.lines()
    assert len(lines) <= 2 * LINES_AT_ONCE
    (latency,) = await bench.latency()
    assert latency.own.count == 6 * LINES_AT_ONCE


async def test_single_lines_have_the_cause_of_a_failure(bench: Bench) -> None:
    refused: dict[str, Any] = {
        "outcome": "rate_limited",
        "status": 429,
        "code": "x",
        "refused_by": LINE.refused_by,
    }
    for _ in range(LINES_EACH + 5):
        bench.history.request_ended(hit(**refused), 0.001)
    bench.history.request_ended(
        bought(outcome="upstream_failed", status=502, upstream_status=500, reason="No."), 1.0
    )
    *single, shared = sorted(await bench.lines(), key=lambda line: line.requests)
    assert [line.refused_by for line in single if line.outcome == "rate_limited"] == [
        LINE.refused_by
    ] * LINES_EACH
    assert [(line.upstream_status, line.reason) for line in single if line.upstream] == [
        (500, "No.")
    ]
    assert (shared.requests, shared.refused_by, shared.reason) == (5, None, None)


@pytest.mark.parametrize("settled", [False, True])
async def test_a_purchase_whose_client_disconnects_has_two_lines_and_is_charged_once(
    bench: Bench, settled: bool
) -> None:
    """The client may also disconnect during the settlement, when the cost is known already."""
    result = {"outcome": "miss", "cost": 40_000, "upstream": 20.0}
    record = hit(left=True, status=499, **(result if settled else {"outcome": "client_closed"}))
    bench.history.request_ended(record, 1.0)
    for name, value in result.items():
        setattr(record, name, value)
    bench.history.late_purchase_ended(record, None)
    late, early = await bench.lines()
    assert (early.outcome, early.cost, early.upstream) == ("client_closed", 0, None)
    assert (late.outcome, late.cost, late.upstream) == ("miss", 40_000, 20.0)
    (latency,) = await bench.latency()
    assert (latency.own.count, latency.upstream.count) == (1, 1)
