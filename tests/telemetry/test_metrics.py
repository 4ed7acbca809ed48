"""Metrics: exactly their names and labels, few series, and the same sums as the ledger."""

import asyncio
import json
import random
import re
import secrets
import threading
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector

from gateway.config.settings import UpstreamSettings
from gateway.core import key_format
from gateway.core.model import Limits, Team
from gateway.core.periods import PeriodUsage, day_of, month_of
from gateway.quota.account import Account, Hold
from gateway.quota.ledger import Ledger
from gateway.telemetry.metrics import OUTCOMES, UNREADABLE, Metrics
from gateway.telemetry.quota_gauges import QuotaCollector
from gateway.upstream.sandbox import UpstreamFault
from gateway.web.http_server import MAX_HEAD_BYTES
from tests.support.money import drawing, until, until_asked
from tests.support.quota_steps import reserve, settle
from tests.support.raw import ask, request_bytes, wire
from tests.support.rig import FLAT, Rig, running_rig
from tests.support.steps import Samples, metric, samples, total

NAMES: dict[str, set[str]] = {
    "gateway_requests_total": {"team", "outcome"},
    "gateway_request_duration_seconds_bucket": {"outcome", "le"},
    "gateway_overhead_seconds_bucket": {"le"},
    "gateway_upstream_requests_total": {"account", "status"},
    "gateway_upstream_duration_seconds_bucket": {"model", "le"},
    "gateway_images_total": {"team", "model", "size", "quality", "source"},
    "gateway_cost_usd_total": {"team", "model"},
    "gateway_saved_usd_total": {"team"},
    "gateway_quota_limit": {"team", "limit"},
    "gateway_quota_used": {"team", "limit"},
    "gateway_reservations_open": set(),
    "gateway_cache_lookups_total": {"tier", "result"},
    "gateway_cache_evictions_total": {"tier", "reason"},
    "gateway_cache_bytes": {"tier"},
    "gateway_cache_entries": {"tier"},
    "gateway_in_flight_requests": set(),
    "gateway_store_operation_seconds_bucket": {"operation", "le"},
    "gateway_store_errors_total": {"operation"},
    "gateway_event_loop_lag_seconds_bucket": {"le"},
    "gateway_alerts_total": {"kind", "result"},
    "gateway_cache_limit_bytes": {"tier"},
    "gateway_flights_open": set(),
    "gateway_flights_total": {"role"},
    "gateway_in_flight_limit": set(),
    "gateway_lease_losses_total": set(),
    "gateway_log_lines_dropped_total": set(),
    "gateway_lost_purchases_total": set(),
    "gateway_month_cost_usd": {"team"},
    "gateway_process_cpu_seconds_total": set(),
    "gateway_process_max_fds": set(),
    "gateway_process_open_fds": set(),
    "gateway_process_resident_memory_bytes": set(),
    "gateway_process_start_time_seconds": set(),
    "gateway_process_virtual_memory_bytes": set(),
    "gateway_quota_refusals_total": {"team", "limit", "whose"},
    "gateway_settlements_above_hold_total": set(),
    "gateway_unknown_charges_total": {"cause"},
}
"""All metrics and their labels."""

LIMITS = Limits(
    images_per_day=100,
    images_per_month=1000,
    cost_per_day=10_000_000,
    cost_per_month=20_000_000,
    requests_per_minute=50,
    concurrent_requests=5,
)


def by_name(found: Samples) -> dict[str, set[str]]:
    labels: dict[str, set[str]] = {}
    for name, values in found:
        if not name.endswith(("_sum", "_count")):
            labels.setdefault(name, set()).update(label for label, _ in values)
    return labels


async def test_all_metrics_have_exactly_their_labels(tmp_path: Path) -> None:
    async with running_rig(tmp_path, CACHE_MAX_BYTES="3000", LIMITS_IMAGES_PER_DAY="10") as rig:
        key = await rig.key(limits=LIMITS)
        for prompt in ("one", "one", "two", "three", "four"):
            await rig.generate(key, prompt)
        await asyncio.sleep(0.6)
        found = by_name(await samples(rig))
    assert found == NAMES


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.exhaustive)])
async def test_clients_cannot_make_series(rig: Rig, count: int) -> None:
    """Made-up prompts, sizes, qualities, models, paths, methods and keys, from the very first."""
    key, gate = await rig.key(), asyncio.Semaphore(100)
    await until(lambda: begins_at_zero(rig, "team"), 30)
    before = len(await samples(rig))

    async def one(number: int) -> None:
        word = secrets.token_hex(4)
        fields, bearer, path, method = made_up(number, word)
        async with (
            gate,
            rig.session.request(
                method,
                rig.url + path,
                data=json.dumps(fields),
                headers={
                    "Authorization": f"Bearer {bearer or key}",
                    "Content-Type": "application/json",
                    "X-Request-Id": word,
                    "User-Agent": word,
                },
            ) as response,
        ):
            await response.read()

    await asyncio.gather(*(one(number) for number in range(count)))
    found = await samples(rig)
    # What the parser refuses, such as unknown methods, is no request yet.
    assert 0.9 * count <= total(found, "gateway_requests_total") <= count
    assert len(found) - before <= 50


async def test_unreadable_requests_are_counted_by_their_cause(tmp_path: Path) -> None:
    long, bad = f"X: {'a' * 20_000}\r\n", "X : a\r\n"
    async with running_rig(tmp_path, FLAT) as rig:
        for headers in (long, bad, bad):
            await ask(rig.url, request_bytes(headers=headers))
        async with wire(rig.url) as connection:
            await connection.send(b"GET / HTTP/1.1\r\n")
            for _ in range(2 * MAX_HEAD_BYTES // 8_000):
                await connection.send(b"X: " + b"a" * 8_000 + b"\r\n")
                await asyncio.sleep(0.005)
            await connection.rest()
        found = await samples(rig)
    counted = {
        kind: total(found, "gateway_requests_total", outcome=kind, team="") for kind in UNREADABLE
    }
    assert counted == {"headers_too_large": 2, "invalid_http": 2}


def made_up(number: int, word: str) -> tuple[dict[str, object], str | None, str, str]:
    """Fields, key (None: the right one), path and method of a request that nobody sent before."""
    path = "/v1/images/generations"
    size = f"{1024 + 16 * (number % 100)}x{1024 + 16 * (number // 100)}"
    kinds: list[tuple[dict[str, object], str | None, str, str]] = [
        ({"prompt": "the same"}, None, path, "POST"),
        ({"prompt": word, "size": size}, None, path, "POST"),
        ({"prompt": "the same", "size": word}, None, path, "POST"),
        ({"prompt": "the same", "model": word}, None, path, "POST"),
        ({"prompt": "the same", "n": number + 20}, None, path, "POST"),
        (
            {"prompt": "the same", word: number},
            key_format.mint(secrets.token_bytes)[1],
            path,
            "POST",
        ),
        ({"prompt": word}, word, path, "POST"),
        ({"prompt": word}, None, f"/v1/{word}", "POST"),
        ({"prompt": word}, None, path, word.upper()),
        ({"prompt": "the same", "quality": word if number < 1000 else "low"}, None, path, "POST"),
    ]
    return kinds[number % len(kinds)]


async def test_money_and_images_equal_those_of_the_ledger(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.05)) as rig:
        red, blue = await rig.key("red"), await rig.key("blue", limits=Limits(images_per_day=5))
        await asyncio.gather(
            *(rig.generate(red, f"p{number % 4}", n=1 + number % 3) for number in range(40)),
            *(rig.generate(blue, None) for _ in range(10)),
        )
        await rig.generate(red, "p0")
        for code in (500, 400, 502):
            rig.sandbox.fault = UpstreamFault(kind="status", status=code, times=1)
            await rig.generate(red, None, n=2)
        rig.sandbox.fault = UpstreamFault(kind="fewer", images=3, times=1)
        await rig.generate(red, None, n=4)
        found, usage = await samples(rig), await rig.usage()
        assert total(found, "gateway_cost_usd_total") == pytest.approx(usage.cost / 1e6)
        assert total(found, "gateway_saved_usd_total") == pytest.approx(usage.saved / 1e6)
        images = "gateway_images_total"
        bought = usage.images_bought - usage.images_unknown
        assert total(found, images, source="upstream") == bought
        assert total(found, images, source="cache") == usage.images_cached
        assert total(found, "gateway_upstream_requests_total") == rig.sandbox.counts.calls
        answered = {"miss", "hit", "collapsed"}
        outcomes = {
            dict(has)["outcome"]: value
            for (name, has), value in found.items()
            if name == "gateway_requests_total" and dict(has)["team"] == "red"
        }
        assert outcomes.keys() == answered | {
            "upstream_failed",
            "upstream_refused",
            "upstream_unknown",
        }
        assert total(found, "gateway_requests_total", outcome="insufficient_quota") == 5
        assert total(found, "gateway_requests_total") == 55


async def test_quota_gauges_follow_the_account(tmp_path: Path) -> None:
    toml = FLAT + "[limits]\nimages_per_month = 500\n"
    sandbox = drawing(latency=0.5)
    async with running_rig(tmp_path, toml, sandbox, SERVER_MAX_IN_FLIGHT="77") as rig:
        key = await rig.key(limits=LIMITS)
        await rig.generate(key, "settled", n=2)
        buying = asyncio.create_task(rig.generate(key, "held", n=3))
        await until_asked(rig, 2)
        found = await samples(rig)
        used = {
            dict(has)["limit"]: value
            for (name, has), value in found.items()
            if name == "gateway_quota_used" and dict(has)["team"] == "team"
        }
        assert used == {
            "images_per_day": 5,
            "images_per_month": 5,
            "cost_per_day_usd": 0.2,
            "cost_per_month_usd": 0.2,
            "requests_per_minute": 2,
            "concurrent_requests": 1,
        }
        assert total(found, "gateway_quota_limit", team="team", limit="cost_per_day_usd") == 10
        assert total(found, "gateway_quota_used", team="", limit="images_per_month") == 5
        assert total(found, "gateway_quota_limit", team="", limit="images_per_month") == 500
        assert total(found, "gateway_reservations_open") == 1
        assert total(found, "gateway_month_cost_usd", team="team") == 0.2
        assert total(found, "gateway_in_flight_requests") == 1
        assert total(found, "gateway_flights_open") == 1
        await buying
        for name in ("reservations_open", "in_flight_requests", "flights_open"):
            await until(lambda name=name: metric_is(rig, 0, f"gateway_{name}"))  # type: ignore[misc]
        found = await samples(rig)
        kept = rig.gateway.settings.cache.max_bytes
        assert total(found, "gateway_in_flight_limit") == 77
        assert total(found, "gateway_cache_limit_bytes", tier="memory") == kept
        assert total(found, "gateway_process_resident_memory_bytes") > 1_000_000
        assert total(found, "gateway_process_open_fds") > 3


async def test_waiting_for_a_purchase_is_no_overhead(tmp_path: Path) -> None:
    async with running_rig(tmp_path, sandbox=drawing(latency=0.5)) as rig:
        key = await rig.key()
        await asyncio.gather(*(rig.generate(key) for _ in range(5)))
        assert await metric(rig, "gateway_overhead_seconds_count") == 5
        duration = await metric(rig, "gateway_request_duration_seconds_sum")
        assert duration - await metric(rig, "gateway_overhead_seconds_sum") > 2


async def test_refusals_are_counted_from_zero_by_limit_and_owner(tmp_path: Path) -> None:
    toml = FLAT + "[limits]\nimages_per_month = 2\n"
    async with running_rig(tmp_path, toml) as rig:
        red = await rig.key("red", limits=Limits(images_per_day=1))
        blue = await rig.key("blue")
        own = await rig.further_key("blue", limits=Limits(requests_per_minute=0))
        await until(lambda: refusals_are(rig, {"gateway": 0, "team": 0}), 30)
        for key in (red, red, red, blue, blue, own):
            await rig.generate(key, None)
        assert await refusals_are(rig, {"gateway": 1, "team": 2, "key": 1})
        found = await samples(rig)
    name = "gateway_quota_refusals_total"
    assert total(found, name, team="red", limit="images_per_day", whose="team") == 2
    assert total(found, name, team="", limit="images_per_month", whose="gateway") == 1
    assert total(found, name, team="blue", limit="requests_per_minute", whose="key") == 1


async def test_a_team_begins_at_zero_before_its_first_call(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        await rig.key("red", limits=Limits(images_per_day=1))
        await until(lambda: begins_at_zero(rig, "red"), 30)
        await rig.ask_admin("DELETE", "teams/red")
        await rig.key("blue")
        await until(lambda: begins_at_zero(rig, "blue"), 30)


async def begins_at_zero(rig: Rig, team: str) -> bool:
    """Whether the series that dashboards add up exist for this team, at zero."""
    found = await samples(rig)
    labels = [
        ("gateway_cost_usd_total", {"team": team, "model": "gpt-image-2"}),
        ("gateway_saved_usd_total", {"team": team}),
        *(
            ("gateway_requests_total", {"team": team, "outcome": outcome})
            for outcome in (
                *("miss", "hit", "collapsed", "insufficient_quota", "rate_limited"),
                *(outcome for outcome in OUTCOMES if outcome.startswith("upstream_")),
            )
        ),
    ]
    return all(found.get((name, frozenset(has.items()))) == 0 for name, has in labels)


async def refusals_are(rig: Rig, wanted: dict[str, float]) -> bool:
    """Whether so many purchases were refused, by the owner of the limit."""
    counted: dict[str, float] = {}
    for (name, has), value in (await samples(rig)).items():
        if name == "gateway_quota_refusals_total":
            whose = dict(has)["whose"]
            counted[whose] = counted.get(whose, 0) + value
    return counted == wanted


async def test_unknown_charges_are_counted_by_their_cause(tmp_path: Path) -> None:
    name = "gateway_unknown_charges_total"
    async with running_rig(tmp_path, FLAT) as rig:
        key = await rig.key()
        assert await metric(rig, name) == 0
        for status in (502, 500, 200):
            rig.sandbox.fault = UpstreamFault(kind="status", status=status, times=1)
            await rig.generate(key, None)
        asked = await metric(rig, name, cause="call")
        dead = Ledger(rig.gateway.store.accounts, spread=random.random)
        await dead.start()
        for id in ("first", "second"):
            await dead.reserve(reserve(id, "team", lease=0.1))
        await dead.close(0)
        await until(lambda: metric_is(rig, 2, name, cause="swept"), 60)
        row = await rig.usage()
        assert asked == row.images_unknown - 2 == 2
        assert await metric(rig, "gateway_cost_usd_total") == row.cost / 1e6


async def metric_is(rig: Rig, value: float, name: str, **labels: str) -> bool:
    return await metric(rig, name, **labels) == value


async def test_open_holds_of_a_deleted_team_count_until_they_end(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        await rig.key("gone")
        other = Ledger(
            rig.gateway.store.accounts, spread=random.random
        )  # as another gateway has it
        await other.start()
        await other.reserve(reserve("r1", "gone"))
        await until(lambda: metric_is(rig, 1, "gateway_reservations_open"), 60)
        await rig.ask_admin("DELETE", "teams/gone")
        await other.finish(settle("r1", "gone"))
        await until(lambda: metric_is(rig, 0, "gateway_reservations_open"), 60)
        await other.close(5)


async def test_slow_requests_have_their_ids_as_exemplars(
    tmp_path: Path,
) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.1)) as rig:
        key = await rig.key()
        for id in ("apple-7", "i" * 128):  # the latter is longer than OpenMetrics allows
            got = await rig.generate(key, None, headers={"X-Request-Id": id})
            assert got.status == 200
        wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
        url = f"{rig.gateway.admin_url}/metrics"
        async with rig.session.get(url, headers=wanted) as response:
            page = await response.text()
        plain = (await rig.admin("/metrics")).body.decode()
    assert re.findall(r'# \{request_id="([^"]*)"\}', page) == ["apple-7"]
    assert "apple-7" not in plain


class Slow(Collector):
    """A collector that blocks until a test releases it."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        self.asked.set()
        assert self.go.wait(60)
        return []


async def test_requests_are_answered_while_metrics_are_collected(rig: Rig) -> None:
    key, slow = await rig.key(), Slow()
    rig.gateway.metrics.registry.register(slow)
    scrape = asyncio.create_task(rig.admin("/metrics"))
    try:
        await until(slow.asked.is_set)
        assert (await asyncio.wait_for(rig.generate(key), 30)).status == 200
        assert not scrape.done()
    finally:
        slow.go.set()
    assert (await scrape).status == 200


async def test_the_page_is_for_prometheus(rig: Rig) -> None:
    page = await rig.admin("/metrics")
    assert page.headers["Content-Type"].startswith("text/plain; version=")
    assert b"_created" not in page.body
    for line in page.body.decode().splitlines():
        assert line.startswith(("# HELP ", "# TYPE ", "gateway_")), line


# -- the parts ----------------------------------------------------------------------------------


def test_periods_that_ended_no_longer_count() -> None:
    now = 1_000_000.0
    old = PeriodUsage(day_of(now) - 1, images=7, cost=9)
    account = Account(
        day=old,
        month=PeriodUsage(month_of(now), images=9, cost=90_000, held_images=1, held_cost=10_000),
        minute=((int(now) - 100, 5), (int(now) - 5, 2)),
        holds={"r": Hold(now, now + 1, "k", "m", "s", "q", 1, 10_000, False)},
    )
    collector = QuotaCollector(
        lambda: {"team": Team(name="team", limits=LIMITS)}, Limits, lambda: now
    )
    collector.accounts_seen({"team:team": account})
    _, used, month, open = collector.collect()
    assert {sample.labels["limit"]: sample.value for sample in used.samples} == {
        "images_per_day": 0,
        "images_per_month": 10,
        "cost_per_day_usd": 0,
        "cost_per_month_usd": 0.1,
        "requests_per_minute": 2,
        "concurrent_requests": 1,
    }
    assert month.samples[0].value == 0.1
    assert open.samples[0].value == 1


def test_a_model_that_is_configured_later_begins_at_zero_too() -> None:
    metrics, teams = Metrics(), {"red": Team(name="red")}
    metrics.begin_teams_at_zero(teams, Limits(), ["first"])
    metrics.cost.add(("red", "first"), 210_000)
    metrics.begin_teams_at_zero(teams, Limits(), ["first", "second"])
    costs = [
        metrics.registry.get_sample_value("gateway_cost_usd_total", {"team": "red", "model": name})
        for name in ("first", "second")
    ]
    assert costs == [0.21, 0]


def test_store_errors_begin_at_zero_with_the_first_success() -> None:
    metrics, labels = Metrics(), {"operation": "forget_activity"}
    metrics.store_operation("forget_activity", 0.1, True)
    assert metrics.registry.get_sample_value("gateway_store_errors_total", labels) == 0
    metrics.store_operation("forget_activity", 0.1, False)
    assert metrics.registry.get_sample_value("gateway_store_errors_total", labels) == 1


@pytest.mark.parametrize(
    "name", ["gateway_request_duration_seconds", "gateway_upstream_duration_seconds"]
)
def test_duration_buckets_distinguish_purchases(name: str) -> None:
    """Up to the time that the upstream is given, no bucket ends at over twice its start."""
    metrics = Metrics()
    metrics.duration["miss",].observe(1)
    metrics.upstream_call_ended("gpt-image-2", "200", 1)
    ends = sorted(
        {
            float(sample.labels["le"])
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"{name}_bucket"
        }
    )
    long = [end for end in ends if 0.5 <= end < float("inf")]
    assert long[-1] > UpstreamSettings().timeout_seconds
    assert all(end <= 2 * start for start, end in pairwise(long))
