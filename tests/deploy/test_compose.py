"""deploy/compose.yaml: its form, its hardening, and its services as plain processes."""

import asyncio
import io
import json
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from gateway.config.files import load_settings
from gateway.upstream.sandbox import Sandbox
from tests.support.compose import Stack, read_compose
from tests.support.raw import ask, request_bytes
from tests.support.rig import ADMIN_TOKEN, UPSTREAM_KEY, Got
from tests.support.steps import drawing, until
from tests.support.tools import DEPLOY, ROOT, passes

REQUIRED = {
    "GATEWAY_UPSTREAM_BASE_URL": "http://127.0.0.1:1",
    "GATEWAY_UPSTREAM_API_KEY": UPSTREAM_KEY,
    "GATEWAY_KEYS_PEPPER": secrets.token_hex(32),
}
FILE = read_compose(REQUIRED)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
GATEWAYS = ["gateway-1", "gateway-2"]
REDIS = ["ledger", "cache"]


class Running(NamedTuple):
    """The stack, its upstream, and a client with a key."""

    stack: Stack
    upstream: Sandbox
    session: aiohttp.ClientSession
    key: str


CALLS = 24
AT_ONCE = 8
"""Below the team's concurrent_requests."""


# -- the file ---------------------------------------------------------------------------------


def test_it_is_a_compose_file() -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_required_variables_are_asked_for(missing: str) -> None:
    filled_in = {name: value for name, value in REQUIRED.items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        read_compose(filled_in)


def test_the_example_of_env_names_every_variable() -> None:
    example = (DEPLOY / ".env.example").read_text()
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert set(re.findall(r"^(?:# )?(\w+)=", example, flags=re.MULTILINE)) == used
    filled_in = re.findall(r"^(?!#)\w+=\S", example, flags=re.MULTILINE)
    assert not filled_in


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "balancer" else [])
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_each_image_has_a_version(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].rpartition(":")
    assert tag == "local" if name in GATEWAYS else re.search(r"\d+\.\d+", tag)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_alone(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_only_gateways_reach_the_redis_servers() -> None:
    assert FILE["networks"]["stores"] == {"internal": True}
    for name in REDIS:
        assert SERVICES[name]["networks"] == ["stores"]
        assert "ports" not in SERVICES[name]
    inside = [name for name, service in SERVICES.items() if "stores" in service["networks"]]
    assert sorted(inside) == sorted([*GATEWAYS, *REDIS])


def test_calls_under_way_have_the_time_to_end() -> None:
    settings, _ = load_settings(ROOT / "config" / "gateway.toml", {})
    for name in [*GATEWAYS, "balancer"]:
        seconds = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert seconds >= settings.server.drain_seconds + 20


def mounts() -> list[str]:
    found = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    return sorted({mount.split(":")[0] for mount in found if mount.startswith(".")})


@pytest.mark.parametrize("source", mounts())
def test_mounted_files_exist(source: str) -> None:
    part = DEPLOY / Path(source).parts[0]
    if not part.exists():
        pytest.skip(f"this copy has no deploy/{part.name}")
    assert (DEPLOY / source).exists()


# -- the services ------------------------------------------------------------------------------


def programs_missing() -> set[str]:
    """Services whose programs this machine does not have. Debian has no package of Grafana."""
    missing = {"grafana"}
    if shutil.which("caddy") is None:
        missing.add("balancer")
    if shutil.which("prometheus") is None or not (DEPLOY / "prometheus").exists():
        missing.add("prometheus")
    return missing


async def generate(session: aiohttp.ClientSession, url: str, key: str, prompt: str) -> Got:
    async with session.post(
        f"{url}/v1/images/generations",
        headers={"Authorization": f"Bearer {key}"},
        json={"prompt": prompt},
    ) as response:
        return await Got.read(response)


async def count(session: aiohttp.ClientSession, stack: Stack, name: str) -> float:
    """How many purchases the metrics of a gateway count."""
    async with session.get(f"http://{stack.addresses[name]}:9090/metrics") as response:
        page = await response.text()
    found = re.findall(
        r'^gateway_upstream_requests_total\{.*status="200".*\} (\S+)', page, flags=re.MULTILINE
    )
    return sum(map(float, found))


async def counted_by_prometheus(session: aiohttp.ClientSession, stack: Stack) -> dict[str, float]:
    """The same count for each instance, from Prometheus."""
    query = 'sum by (instance) (gateway_upstream_requests_total{status="200"})'
    url = f"http://{stack.addresses['prometheus']}:9090/api/v1/query"
    async with session.get(url, params={"query": query}) as response:
        answer = await response.json()
    return {
        row["metric"]["instance"].partition(":")[0]: float(row["value"][1])
        for row in answer["data"]["result"]
    }


async def traffic(session: aiohttp.ClientSession, stack: Stack, key: str) -> None:
    """Purchases through the balancer, then a hit on each gateway."""
    balancer = f"http://{stack.addresses['balancer']}:8080"
    for begin in range(0, CALLS, AT_ONCE):
        asked = [
            generate(session, balancer, key, f"apple {number}")
            for number in range(begin, begin + AT_ONCE)
        ]
        assert {got.status for got in await asyncio.gather(*asked)} == {200}
    for name in GATEWAYS:
        url = f"http://{stack.addresses[name]}:8080"
        again = await generate(session, url, key, "apple 0")
        assert "hit" in again.headers["Cache-Status"]


needs_caddy = pytest.mark.skipif("balancer" in programs_missing(), reason="caddy is not installed")


@asynccontextmanager
async def running(folder: Path, latency: float, without: set[str]) -> AsyncIterator[Running]:
    """The stack with a sandbox that takes `latency` seconds, a team and its key."""
    async with Sandbox(drawing(latency=latency)) as upstream:
        filled_in = {**REQUIRED, "GATEWAY_UPSTREAM_BASE_URL": upstream.url}
        filled_in["GATEWAY_ADMIN_TOKEN"] = ADMIN_TOKEN
        async with Stack(folder, filled_in, without) as stack, aiohttp.ClientSession() as session:
            await stack.run("gateway-1", "gateway", "teams", "apply", "config/teams.toml")
            key = await stack.run("gateway-2", "gateway", "keys", "create", "--team", "design")
            yield Running(stack, upstream, session, key)


@needs_caddy
async def test_its_services_answer_teams_and_are_watched(tmp_path: Path) -> None:
    missing = programs_missing()
    async with running(tmp_path, 0.3, missing) as (stack, upstream, session, key):
        await traffic(session, stack, key)
        assert upstream.counts.asked == CALLS
        own = {stack.addresses[name]: await count(session, stack, name) for name in GATEWAYS}
        assert sum(own.values()) == CALLS
        assert all(own.values()), "both gateways took part"
        shown = json.loads(await stack.run("gateway-1", "gateway", "usage", "--format", "json"))
        assert [row["images_bought"] for row in shown] == [CALLS]
        if "prometheus" not in missing:
            await until(lambda: watched(session, stack, own), 60)


async def watched(session: aiohttp.ClientSession, stack: Stack, own: dict[str, float]) -> bool:
    """Whether Prometheus has the counts of the gateways."""
    return await counted_by_prometheus(session, stack) == own


CHECKED_SECONDS = 2
"""How often the balancer checks the gateways' health."""

NO_ANSWER = (502, "server_error", "no_answer")


@needs_caddy
async def test_a_call_whose_gateway_dies_is_not_sent_again(tmp_path: Path) -> None:
    watching = {"grafana", "prometheus"}
    async with running(tmp_path, 1.5, watching) as (stack, upstream, session, key):
        balancer = f"http://{stack.addresses['balancer']}:8080"

        def ask(number: int) -> asyncio.Task[Got]:
            return asyncio.create_task(generate(session, balancer, key, f"pear {number}"))

        asked = [ask(number) for number in range(4)]
        await until(lambda: upstream.counts.asked == 4)
        await stack.kill("gateway-1")
        answers = await asyncio.gather(*asked)
        assert {got.status for got in answers} == {200, 502}
        # A client that retried would buy a second time.
        assert {got.headers.get("x-should-retry") for got in answers} == {None, "false"}
        assert {got.error for got in answers if got.status != 200} == {NO_ANSWER}
        assert upstream.counts.asked == 4
        # The next requests reach the gateway that lives, at once.
        asked = [ask(number) for number in range(4, 8)]
        assert {got.status for got in await asyncio.gather(*asked)} == {200}
        assert upstream.counts.asked == 8
        await stack.kill("gateway-2")

        async def may_ask_again() -> bool:
            got = await ask(8)
            assert got.status in (502, 503)  # the balancer may already know that no gateway is left
            assert got.error[1:] == NO_ANSWER[1:]
            return "x-should-retry" not in got.headers

        await until(may_ask_again, 30)  # the first call may go to a connection from before
        assert upstream.counts.asked == 8


@needs_caddy
async def test_with_the_ledger_away_answers_of_the_cache_still_come(tmp_path: Path) -> None:
    async with running(tmp_path, 0, {"grafana", "prometheus"}) as (stack, upstream, session, key):
        balancer = f"http://{stack.addresses['balancer']}:8080"
        for name in GATEWAYS:  # each knows the key
            url = f"http://{stack.addresses[name]}:8080"
            assert (await generate(session, url, key, "kept")).status == 200
        await stack.kill("ledger")

        async def know() -> bool:
            for name in GATEWAYS:
                async with session.get(f"http://{stack.addresses[name]}:9090/readyz") as response:
                    if response.status == 200:
                        return False
            return True

        await until(know, 60)
        await asyncio.sleep(2 * CHECKED_SECONDS)  # the balancer has checked them since
        for _ in range(4):
            assert (await generate(session, balancer, key, "kept")).headers["Age"]
        got = await generate(session, balancer, key, "new")
        assert got.error == (503, "server_error", "store_unavailable")
        assert upstream.counts.asked == 1


@needs_caddy
async def test_a_broken_or_too_large_body_harms_its_client_alone(tmp_path: Path) -> None:
    async with running(tmp_path, 0, {"grafana", "prometheus"}) as (stack, upstream, session, key):
        balancer = f"http://{stack.addresses['balancer']}:8080"
        for size in (1_500_000, 3_000_000):
            body = json.dumps({"prompt": "x" * size}).encode()
            async with session.post(
                f"{balancer}/v1/images/generations",
                headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
                data=io.BytesIO(body),
            ) as response:
                got = await Got.read(response)
            assert got.error == (413, "invalid_request_error", "body_too_large")
        assert upstream.counts.asked == 0
        assert (await generate(session, balancer, key, "an apple")).status == 200
        for chunks in (b"ZZ\r\n", b"5\r\nabcdeX0\r\n\r\n"):  # no length, no end
            broken = request_bytes(
                body=chunks, length=None, headers="Transfer-Encoding: chunked\r\n"
            )
            for _ in range(4):
                # It has no key either: the gateway reports the fault that it meets first.
                assert (await ask(balancer, broken)).status in (400, 401)
        for name in ("an apple", "a pear"):
            assert (await generate(session, balancer, key, name)).status == 200
