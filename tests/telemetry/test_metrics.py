"""Metrics: exactly their names and labels, few series, and the same sums as the ledger."""

import asyncio
import json
import random
import re
import secrets
import threading
from collections.abc import Awaitable
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import Gauge

from gateway.config.settings import UpstreamSettings
from gateway.core import key_format
from gateway.core.model import Limits, Team
from gateway.core.periods import PeriodUsage, day_of, month_of
from gateway.quota.account import Account, Hold
from gateway.quota.ledger import Ledger
from gateway.telemetry.metrics import TEAM_OUTCOMES, Metrics
from gateway.upstream.sandbox import UpstreamFault
from tests.support.quota_steps import reserve, settle
from tests.support.rig import FLAT, Rig, running_rig
from tests.support.steps import (
    Samples,
    drawing,
    gauges_of,
    key_in,
    metric,
    read_samples,
    samples,
    total,
    until,
    until_asked,
)
from tests.support.tools import ROOT

LIMITS = Limits(
    images_per_day=100,
    images_per_month=1000,
    cost_per_day=10_000_000,
    cost_per_month=20_000_000,
    requests_per_minute=50,
    concurrent_requests=5,
)
PATH = "/v1/images/generations"


def by_label(found: Samples, name: str, label: str, **labels: str) -> dict[str, float]:
    """The sums of a metric by the values of one label, over all series that have `labels`."""
    wanted, sums = set(labels.items()), dict[str, float]()
    for (each, has), value in found.items():
        if each == name and wanted <= has:
            key = dict(has)[label]
            sums[key] = sums.get(key, 0) + value
    return sums


async def until_metric(rig: Rig, value: float, name: str, **labels: str) -> None:
    """Wait until a metric has this value: accounts are read every five seconds."""

    async def has_value() -> bool:
        return await metric(rig, name, **labels) == value

    await until(has_value, 60, every=0.2)


def documented() -> dict[str, set[str]]:
    """The metrics and their labels in the documentation's table."""
    table = (ROOT / "docs" / "monitoring.md").read_text().partition("\n| metric |")[2]
    cells = re.findall(r"^\| (.+?) \|", table.partition("\n\n")[0], re.MULTILINE)
    named = re.findall(r"`([a-z_]+)(?:\{(.+?)\})?`", " ".join(cells))
    return {
        f"gateway_{name}": {label for label in labels.split(",") if label} for name, labels in named
    }


async def test_the_page_has_all_documented_metrics_with_exactly_their_labels(
    tmp_path: Path,
) -> None:
    async with running_rig(tmp_path, CACHE_MAX_BYTES="3000", LIMITS_IMAGES_PER_DAY="10") as rig:
        key = await rig.key(limits=LIMITS)
        for prompt in ("one", "one", "two", "three", "four"):
            await rig.generate(key, prompt)
        rig.sandbox.fault = UpstreamFault(kind="fewer", images=2, times=1)
        await rig.generate(key, "five")
        await asyncio.sleep(0.6)
        page = await rig.admin("/metrics")
    assert page.headers["Content-Type"].startswith("text/plain; version=")
    text = page.body.decode()
    found: dict[str, set[str]] = {}
    for name, labels in read_samples(text):
        if not name.startswith("gateway_process_") and not name.endswith(("_sum", "_count")):
            found.setdefault(name.removesuffix("_bucket"), set()).update(dict(labels))
    expected = documented()
    assert expected.pop("gateway_store_setting_safe")  # Redis alone has it: see test_store_watch
    assert {name: labels - {"le"} for name, labels in found.items()} == expected
    assert {line.split("_")[0] for line in text.splitlines()} == {
        *("gateway", "# HELP gateway", "# TYPE gateway")
    }


# -- series and counts --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.exhaustive)])
async def test_clients_cannot_make_series(tmp_path: Path, count: int) -> None:
    """Made-up prompts, sizes, qualities, models, paths, methods and keys, from the very first."""
    key = await key_in(tmp_path)  # before the start, so that the team's series exist from then on
    async with running_rig(tmp_path) as rig:
        before = len(await samples(rig))
        await asyncio.gather(*made_up(rig, key, count))
        found = await samples(rig)
    # Requests that the parser refuses, such as those with unknown methods, are not counted.
    assert 0.9 * count <= total(found, "gateway_requests_total") <= count
    assert len(found) - before <= 100


def made_up(rig: Rig, key: str, count: int) -> list[Awaitable[None]]:
    """Requests of ten kinds, each with a word of its own."""
    gate = asyncio.Semaphore(100)

    async def send(
        word: str,
        fields: dict[str, object],
        *,
        bearer: str = key,
        path: str = PATH,
        method: str = "POST",
    ) -> None:
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        headers |= {"X-Request-Id": word, "User-Agent": word}
        data, url = json.dumps({"prompt": "the same", **fields}), rig.url + path
        async with gate, rig.session.request(method, url, data=data, headers=headers) as response:
            await response.read()

    requests: list[Awaitable[None]] = []
    for number in range(count // 10):
        word = secrets.token_hex(4)
        size = f"{1024 + 16 * (number % 100)}x{1024 + 16 * (number // 100)}"
        requests += [
            send(word, {}),
            send(word, {"prompt": word, "size": size}),
            send(word, {"size": word}),
            send(word, {"model": word}),
            send(word, {"n": number + 20}),
            send(word, {word: number}, bearer=key_format.mint(secrets.token_bytes)[1]),
            send(word, {}, bearer=word),
            send(word, {}, path=f"/v1/{word}"),
            send(word, {}, method=word.upper()),
            send(word, {"quality": word if number < count // 100 else "low"}),
        ]
    return requests


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
        calls = rig.sandbox.counts.calls
    assert total(found, "gateway_cost_usd_total") == pytest.approx(usage.cost / 1e6)
    assert total(found, "gateway_saved_usd_total") == pytest.approx(usage.saved / 1e6)
    assert by_label(found, "gateway_images_total", "source") == {
        "upstream": usage.images_bought - usage.images_unknown,
        "cache": usage.images_cached,
    }
    assert total(found, "gateway_upstream_requests_total") == calls
    outcomes = by_label(found, "gateway_requests_total", "outcome", team="red")
    assert {outcome for outcome, count in outcomes.items() if count} == {
        *("miss", "hit", "collapsed", "upstream_failed", "upstream_refused", "upstream_unknown")
    }
    assert total(found, "gateway_requests_total", outcome="insufficient_quota") == 5
    assert total(found, "gateway_requests_total") == 55
    assert total(found, "gateway_unknown_charges_total", cause="call") == 1


async def test_gauges_follow_a_purchase_and_its_wait_is_no_overhead(tmp_path: Path) -> None:
    toml = FLAT + "[limits]\nimages_per_month = 500\n"
    async with running_rig(tmp_path, toml, drawing(), SERVER_MAX_IN_FLIGHT="77") as rig:
        key = await rig.key(limits=LIMITS)
        await rig.generate(key, "settled", n=2)
        rig.sandbox.settings.latency = 2  # longer than a slow machine takes for the scrape
        buying = [asyncio.create_task(rig.generate(key, "held", n=3)) for _ in range(3)]
        await until_asked(rig, 2)
        await until(lambda: rig.gateway.proxy.in_flight == 3)
        found = await samples(rig)
        assert total(found, "gateway_quota_used", team="team", limit="requests_per_minute") == 2
        assert total(found, "gateway_quota_limit", team="team", limit="cost_per_day_usd") == 10
        assert total(found, "gateway_quota_used", team="", limit="images_per_month") == 5
        assert total(found, "gateway_quota_limit", team="", limit="images_per_month") == 500
        assert total(found, "gateway_reservations_open") == 1
        assert total(found, "gateway_month_cost_usd", team="team") == 0.2
        assert total(found, "gateway_in_flight_requests") == 3
        assert total(found, "gateway_flights_open") == 1
        await asyncio.gather(*buying)
        for name in ("reservations_open", "in_flight_requests", "flights_open"):
            await until_metric(rig, 0, f"gateway_{name}")
        found = await samples(rig)
        cache = rig.gateway.settings.cache.max_bytes
    assert total(found, "gateway_in_flight_limit") == 77
    assert total(found, "gateway_cache_limit_bytes", tier="memory") == cache
    assert total(found, "gateway_process_resident_memory_bytes") > 1_000_000
    assert total(found, "gateway_process_open_fds") > 3
    assert total(found, "gateway_overhead_seconds_count") == 4
    duration = total(found, "gateway_request_duration_seconds_sum")
    assert duration - total(found, "gateway_overhead_seconds_sum") > 5.5


async def test_refusals_are_counted_from_zero_by_limit_and_owner(tmp_path: Path) -> None:
    toml, name = FLAT + "[limits]\nimages_per_month = 2\n", "gateway_quota_refusals_total"
    red = await key_in(tmp_path, "red", Limits(images_per_day=1))
    async with running_rig(tmp_path, toml) as rig:
        blue = await rig.key("blue")
        own = await rig.further_key("blue", limits=Limits(requests_per_minute=0))
        assert by_label(await samples(rig), name, "whose") == {"gateway": 0, "team": 0}
        for key in (red, red, red, blue, blue, own):
            await rig.generate(key, None)
        found = await samples(rig)
    assert by_label(found, name, "whose") == {"gateway": 1, "team": 2, "key": 1}
    assert total(found, name, team="red", limit="images_per_day", whose="team") == 2
    assert total(found, name, team="", limit="images_per_month", whose="gateway") == 1
    assert total(found, name, team="blue", limit="requests_per_minute", whose="key") == 1


async def test_holds_of_another_gateway_count_until_they_end_or_are_swept(tmp_path: Path) -> None:
    """Also those of a team that is deleted."""
    async with running_rig(tmp_path, FLAT) as rig:
        await rig.key("gone")
        async with Ledger(rig.gateway.store.accounts, spread=random.random) as ledger:
            await ledger.reserve(reserve("r1", "gone"))
            await until_metric(rig, 1, "gateway_reservations_open")
            await rig.ask_admin("DELETE", "teams/gone")
            await ledger.finish(settle("r1", "gone"))
            await until_metric(rig, 0, "gateway_reservations_open")
            for id in ("r2", "r3"):
                await ledger.reserve(reserve(id, lease=0.5))
        unknown = "gateway_unknown_charges_total"
        await until_metric(rig, 2, unknown, cause="swept")
        assert await metric(rig, unknown) == 2
        assert await metric(rig, "gateway_cost_usd_total") == 0.08


# -- the page -----------------------------------------------------------------------------------


async def test_slow_requests_have_their_ids_as_exemplars(tmp_path: Path) -> None:
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


async def test_requests_are_answered_while_metrics_are_collected(rig: Rig) -> None:
    key, asked, go = await rig.key(), threading.Event(), threading.Event()

    def block() -> float:
        asked.set()
        return go.wait(60)

    Gauge("slow", "A gauge.", registry=rig.gateway.metrics.registry).set_function(block)
    scrape = asyncio.create_task(rig.admin("/metrics"))
    try:
        await until(asked.is_set)
        assert (await asyncio.wait_for(rig.generate(key), 30)).status == 200
        assert not scrape.done()
    finally:
        go.set()
    assert (await scrape).status == 200


# -- the parts ----------------------------------------------------------------------------------


def test_periods_that_ended_no_longer_count() -> None:
    now = 1_000_000.0
    account = Account(
        day=PeriodUsage(day_of(now) - 1, images=7, cost=9),
        month=PeriodUsage(month_of(now), images=9, cost=90_000, held_images=1, held_cost=10_000),
        minute=((int(now) - 100, 5), (int(now) - 5, 2)),
        holds={"r": Hold(now, now + 1, "k", "m", "s", "q", 1, 10_000, False)},
    )
    teams = {"team": Team(name="team", limits=LIMITS)}
    gauges = gauges_of(teams, now)
    gauges.accounts_seen({"team:team": account})
    _, used, month, open = gauges.collect()
    assert {sample.labels["limit"]: sample.value for sample in used.samples} == {
        "images_per_day": 0,
        "images_per_month": 10,
        "cost_per_day_usd": 0,
        "cost_per_month_usd": 0.1,
        "requests_per_minute": 2,
        "concurrent_requests": 1,
    }
    assert [month.samples[0].value, open.samples[0].value] == [0.1, 1]


def test_teams_begin_at_zero_also_with_a_model_that_is_added_later() -> None:
    metrics, teams = Metrics(), {"red": Team(name="red")}
    sample = metrics.registry.get_sample_value
    metrics.begin_teams_at_zero(teams, Limits(), ["first"])
    metrics.cost.add(("red", "first"), 210_000)
    metrics.begin_teams_at_zero(teams, Limits(), ["first", "second"])
    costs = [
        sample("gateway_cost_usd_total", {"team": "red", "model": model})
        for model in ("first", "second")
    ]
    assert costs == [0.21, 0]
    for outcome in TEAM_OUTCOMES:
        assert sample("gateway_requests_total", {"team": "red", "outcome": outcome}) == 0


def test_store_errors_begin_at_zero_with_the_first_success() -> None:
    metrics, operation = Metrics(), "forget_activity"
    for ok, errors in ((True, 0), (False, 1)):
        metrics.store_operation(operation, 0.1, ok)
        counted = metrics.registry.get_sample_value(
            "gateway_store_errors_total", {"operation": operation}
        )
        assert counted == errors


@pytest.mark.parametrize(
    "name", ["gateway_request_duration_seconds", "gateway_upstream_duration_seconds"]
)
def test_duration_buckets_distinguish_purchases(name: str) -> None:
    """Up to the upstream's timeout, no bucket ends at more than twice its start."""
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
