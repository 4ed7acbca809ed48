"""A real Prometheus with the shipped rules and the dashboard's queries watches a real gateway."""

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.promql import PROMETHEUS, RULE_FILES, Asked, of_panels, of_rules, selectors
from tests.support.redis import free_port
from tests.support.rig import Rig, running_rig
from tests.support.steps import drawing, until
from tests.support.tools import DEPLOY, passes

READY_SECONDS = 60
ANSWERED_SECONDS = 120
"""How long all queries together may take on a busy machine. On a quiet one it takes 10 s."""

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
FEATURES = [
    part
    for part in COMPOSE["services"]["prometheus"]["command"]
    if part.startswith("--enable-feature")
]
"""The features that the compose file enables."""

MAY_BE_EMPTY = {
    "GatewayBudgetBurnsTooFast": "it looks at hours",
    "GatewayStoreErrors": "the store works",
    "GatewayStoreUpkeepFails": "the store works",
    "GatewayStoreWentBack": "the store loses nothing",
    "GatewayHitRatioCollapsed": "the hit ratio never falls",
    "GatewayEventLoopLags": "the event loop keeps up",
    "GatewayNotScraped": "the gateway is scraped",
    "GatewayInstanceDown": "the gateway answers",
}
"""Alerts without a cause in these tests. Every series that they name must still exist."""


# -- promtool -----------------------------------------------------------------------------------


def test_the_configuration_and_its_rules_are_valid() -> None:
    passes("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    passes("promtool", "check", "rules", *RULE_FILES)


@pytest.mark.parametrize(
    "file", ["tests.yml", pytest.param("tests-of-days.yml", marks=pytest.mark.exhaustive)]
)
def test_alerts_fire_when_they_should(file: str) -> None:
    passes("promtool", "test", "rules", PROMETHEUS / file)


async def test_the_page_of_metrics_is_well_made(tmp_path: Path) -> None:
    async with running_rig(tmp_path, sandbox=drawing(latency=0.0)) as rig:
        await mixed_traffic(rig, await rig.key(), await rig.key("small", limits=LITTLE))
        page = await rig.admin("/metrics")
    done = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input=page.body,
        capture_output=True,
        timeout=READY_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


# -- Prometheus ---------------------------------------------------------------------------------

LITTLE = Limits(images_per_day=1, cost_per_month=10_000_000, requests_per_minute=1_000)


class Server:
    """A running Prometheus."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def is_ready(self) -> bool:
        with suppress(aiohttp.ClientError):
            async with self._session.get(f"{self._url}/-/ready") as response:
                return response.status == 200
        return False

    async def ask(self, path: str, **query: str) -> Any:
        """The answer of its API. An invalid expression fails the test."""
        async with self._session.get(f"{self._url}/api/v1/{path}", params=query) as response:
            answer = await response.json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    async def finds(self, text: str) -> bool:
        """Whether an expression has a result."""
        return bool((await self.ask("query", query=text))["result"])


def configure(folder: Path, target: str) -> Path:
    """The shipped configuration, but it scrapes this target alone, every second."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "1s")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    return file


@asynccontextmanager
async def watching(folder: Path, rig: Rig) -> AsyncIterator[Server]:
    """Prometheus with its data in `folder`, scraping this gateway."""
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={configure(folder, rig.gateway.admin_url.removeprefix('http://'))}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
        *FEATURES,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        server = Server(f"http://{address}", rig.session)
        await until(server.is_ready, READY_SECONDS)
        yield server
    finally:
        process.terminate()
        await process.wait()


async def mixed_traffic(rig: Rig, key: str, small: str) -> None:
    """A purchase, hits, followers, and every way in which a call can fail."""
    prompt = secrets.token_hex(8)
    await asyncio.gather(*(rig.generate(key, prompt) for _ in range(3)))
    await rig.generate(key, prompt)
    await rig.generate("sk-gw-of-nobody", prompt)
    await rig.generate(small, None)
    # A failure, no credit, a key refused twice, too many calls, and an unknown outcome.
    for status in (500, 402, 401, 401, 429, 502):
        rig.sandbox.fault = UpstreamFault(kind="status", status=status, times=1)
        await rig.generate(key, None)


async def test_every_query_rule_and_id_finds_something(tmp_path: Path) -> None:
    async with (
        running_rig(tmp_path, sandbox=drawing(latency=0.1)) as rig,
        watching(tmp_path, rig) as server,
    ):
        key, small = await rig.key(), await rig.key("small", limits=LITTLE)
        for id in ("apple-7", "i" * 128):  # the latter is longer than OpenMetrics allows
            assert (await rig.generate(key, None, headers={"X-Request-Id": id})).status == 200
        await until(lambda: finds_ids(server, {"apple-7"}), READY_SECONDS)
        left = {*of_panels("30s"), *of_rules()}
        shares = [asked for asked in left if asked.where.startswith("Share of 5xx and 429")]
        left |= {
            Asked(f"{each.where}: {one}", one) for each in left for one in selectors(each.text)
        }
        left |= {Asked(f"{share.where}: above 0", f"{share.text} > 0") for share in shares}

        async def answered() -> bool:
            await mixed_traffic(rig, key, small)
            for asked in sorted(left):
                if await server.finds(asked.text):
                    left.discard(asked)
            return {asked.where for asked in left} <= MAY_BE_EMPTY.keys()

        with suppress(TimeoutError):
            await until(answered, ANSWERED_SECONDS)
        assert {asked for asked in left if asked.where not in MAY_BE_EMPTY} == set()
        groups = (await server.ask("rules"))["groups"]
        health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        assert health == dict.fromkeys((rule.where for rule in of_rules()), "ok")


async def finds_ids(server: Server, ids: set[str]) -> bool:
    """Whether these are the ids of the slowest requests."""
    name = 'gateway_request_duration_seconds_bucket{outcome="miss"}'
    rows = await server.ask("query_exemplars", query=name, start="0", end="9999999999")
    return {one["labels"]["request_id"] for row in rows for one in row["exemplars"]} == ids
