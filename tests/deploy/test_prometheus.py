"""Prometheus with the shipped rules, and the dashboard's queries, before a gateway that works."""

import asyncio
import secrets
import socket
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
from tests.support.money import drawing, until
from tests.support.promql import PROMETHEUS, RULE_FILES, Asked, of_panels, of_rules, selectors
from tests.support.rig import Rig, running_rig
from tests.support.tools import DEPLOY, passes

READY_SECONDS = 60
ANSWERED_SECONDS = 120
"""How long all queries together may take to find something, on a machine that does a lot besides.
With nothing else running it takes about 10 s."""

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
FEATURES = [
    part
    for part in COMPOSE["services"]["prometheus"]["command"]
    if part.startswith("--enable-feature")
]
"""Those that are shipped."""

MAY_BE_EMPTY = {
    "GatewayBudgetBurnsTooFast": "its paces are those of hours",
    "GatewayStoreErrors": "the store works",
    "GatewayStoreUpkeepFails": "the store works",
    "GatewayStoreWentBack": "the store keeps what it was told",
    "GatewayHitRatioCollapsed": "the hit ratio is what it was from the beginning",
    "GatewayEventLoopLags": "the event loop has the time",
    "GatewayNotScraped": "the gateway is scraped",
    "GatewayInstanceDown": "the gateway answers",
}
"""Alerts that nothing here gives a reason for. Each series that they name must be there."""


# -- what promtool says -------------------------------------------------------------------------


def test_the_configuration_and_its_rules_are_taken() -> None:
    passes("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    passes("promtool", "check", "rules", *RULE_FILES)


@pytest.mark.parametrize("file", ["tests.yml", "tests-of-days.yml"])
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


# -- what it finds ------------------------------------------------------------------------------

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
        """What its API answers. An expression that it cannot read fails the test."""
        async with self._session.get(f"{self._url}/api/v1/{path}", params=query) as response:
            answer = await response.json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    async def finds(self, text: str) -> bool:
        """Whether an expression gives anything."""
        return bool((await self.ask("query", query=text))["result"])


def configure(folder: Path, target: str) -> Path:
    """The shipped configuration, but that it looks each second, and at this target alone."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "1s")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    return file


def free_address() -> str:
    """A host and a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@asynccontextmanager
async def watching(folder: Path, rig: Rig) -> AsyncIterator[Server]:
    """Prometheus, which watches this gateway, with its data in `folder`."""
    address = free_address()
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
    """A purchase, hits, followers, and each way in which a call can fail."""
    prompt = secrets.token_hex(8)
    await asyncio.gather(*(rig.generate(key, prompt) for _ in range(3)))
    await rig.generate(key, prompt)
    await rig.generate("sk-gw-of-nobody", prompt)
    await rig.generate(small, None)
    # Failed, a refused key, too many calls, and what nobody can tell.
    for status in (500, 401, 429, 502):
        rig.sandbox.fault = UpstreamFault(kind="status", status=status, times=1)
        await rig.generate(key, None)


async def test_every_query_and_rule_finds_something(tmp_path: Path) -> None:
    async with (
        running_rig(tmp_path, sandbox=drawing(latency=0.1)) as rig,
        watching(tmp_path, rig) as server,
    ):
        key, small = await rig.key(), await rig.key("small", limits=LITTLE)
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


async def test_a_slow_request_is_found_by_its_id(tmp_path: Path) -> None:
    async with (
        running_rig(tmp_path, sandbox=drawing(latency=0.1)) as rig,
        watching(tmp_path, rig) as server,
    ):
        key = await rig.key()
        for id in ("apple-7", "i" * 128):  # the latter is longer than OpenMetrics allows
            assert (await rig.generate(key, None, headers={"X-Request-Id": id})).status == 200

        async def found() -> bool:
            name = 'gateway_request_duration_seconds_bucket{outcome="miss"}'
            rows = await server.ask("query_exemplars", query=name, start="0", end="9999999999")
            return {one["labels"]["request_id"] for row in rows for one in row["exemplars"]} == {
                "apple-7"
            }

        await until(found, READY_SECONDS)
