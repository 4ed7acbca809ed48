"""deploy/compose.yaml: its form, its hardening, and its services as plain processes."""

import asyncio
import io
import json
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from gateway.config.files import load_settings
from gateway.upstream.sandbox import Sandbox
from tests.support.balancers import CADDY, needs_caddy
from tests.support.compose import Stack, read_compose
from tests.support.raw import BODY, ask, chunked, request_bytes, wire
from tests.support.rig import UPSTREAM_KEY, Client, Got
from tests.support.steps import drawing, metric, tally, until
from tests.support.tools import DEPLOY, ROOT, follows, passes

REQUIRED = {
    "GATEWAY_UPSTREAM_BASE_URL": "http://127.0.0.1:1",
    "GATEWAY_UPSTREAM_API_KEY": UPSTREAM_KEY,
    "GATEWAY_KEYS_PEPPER": secrets.token_hex(32),
}
FILE = read_compose(REQUIRED)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
GATEWAYS = ["gateway-1", "gateway-2"]
REDIS = ["ledger", "cache"]


# -- the file ---------------------------------------------------------------------------------


def test_it_is_a_compose_file() -> None:
    follows("vendor.compose-spec", DEPLOY / "compose.yaml")


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
def test_each_service_is_hardened_pinned_and_open_to_this_machine_alone(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "balancer" else [])
    assert "privileged" not in service
    _, _, tag = service["image"].rpartition(":")
    assert tag == "local" if name in GATEWAYS else re.search(r"\d+\.\d+", tag)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


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
        server = settings.server
        assert seconds >= server.drain_notice_seconds + server.drain_seconds + 20


@needs_caddy
def test_tests_run_the_caddy_of_the_file() -> None:
    _, _, tag = SERVICES["balancer"]["image"].partition(":")
    version = passes("caddy", "version").split()[0]
    assert f"v{tag.removesuffix('-alpine')}" == version
    assert tuple(map(int, version.removeprefix("v").split("."))) >= (2, 11)


def test_mounted_files_exist() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    sources = {mount.partition(":")[0] for mount in mounts if mount.startswith(".")}
    assert sources
    assert {source for source in sources if not (DEPLOY / source).exists()} == set()


# -- the services ------------------------------------------------------------------------------


def programs_missing() -> set[str]:
    """Services whose programs this machine does not have. Debian has no package of Grafana."""
    missing = {"grafana"}
    if not CADDY.exists():
        missing.add("balancer")
    if shutil.which("prometheus") is None:
        missing.add("prometheus")
    return missing


together = pytest.mark.asyncio(loop_scope="module")

CALLS = 24
AT_ONCE = 8
"""Below the team's concurrent_requests."""

CHECKED_SECONDS = 2
"""How often the balancer checks the gateways' health."""

CHUNKED = "Transfer-Encoding: chunked\r\n"
WHOLE = chunked(BODY).removesuffix(b"\r\n")
BROKEN = {
    "no length": b"ZZ\r\n",
    "no end": b"5\r\nabcdeX0\r\n\r\n",
    "a long extension": b"5;" + b"a" * 9_000 + b"\r\nabcde\r\n0\r\n\r\n",
    "a trailer without a colon": WHOLE + b"nocolon\r\n\r\n",
    "a trailer with a nul": WHOLE + b"X: a\0b\r\n\r\n",
}
"""Chunked bodies that Caddy reports in different words."""

NO_ANSWER = (502, "server_error", "no_answer")


class Running(NamedTuple):
    """The stack, its upstream, and a client with a key."""

    stack: Stack
    upstream: Sandbox
    session: aiohttp.ClientSession
    key: str

    def client(self, name: str) -> Client:
        """A client of the balancer or of a gateway."""
        host = f"http://{self.stack.addresses[name]}"
        return Client(self.session, f"{host}:8080", f"{host}:9090")

    async def ask(self, prompt: str, name: str = "balancer") -> Got:
        """Ask for an image."""
        return await self.client(name).generate(self.key, prompt)

    async def crowd(self, *prompts: str) -> list[Got]:
        """Ask the balancer for images, all at once."""
        return list(await asyncio.gather(*map(self.ask, prompts)))

    @property
    def living(self) -> list[str]:
        """The gateways that were not killed."""
        return [name for name in GATEWAYS if self.stack.runs(name)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """The stack with a sandbox, a team and its key. The later tests kill its parts."""
    folder = tmp_path_factory.mktemp("stack")
    async with Sandbox(drawing(latency=0.3)) as upstream:
        filled_in = {**REQUIRED, "GATEWAY_UPSTREAM_BASE_URL": upstream.url}
        async with (
            Stack(folder, filled_in, programs_missing()) as stack,
            aiohttp.ClientSession() as session,
        ):
            await stack.run("gateway-1", "gateway", "teams", "apply", "config/teams.toml")
            key = await stack.run("gateway-2", "gateway", "keys", "create", "--team", "design")
            yield Running(stack, upstream, session, key)


async def counted_by_prometheus(running: Running) -> dict[str, float]:
    """The purchases of each gateway's address, from Prometheus."""
    query = 'sum by (instance) (gateway_upstream_requests_total{status="200"})'
    url = f"http://{running.stack.addresses['prometheus']}:9090/api/v1/query"
    async with running.session.get(url, params={"query": query}) as response:
        answer = await response.json()
    return {
        row["metric"]["instance"].partition(":")[0]: float(row["value"][1])
        for row in answer["data"]["result"]
    }


@needs_caddy
@together
async def test_its_services_answer_teams_and_are_watched(running: Running) -> None:
    stack = running.stack
    for begin in range(0, CALLS, AT_ONCE):
        got = await running.crowd(*(f"apple {begin + number}" for number in range(AT_ONCE)))
        assert {each.status for each in got} == {200}
    for name in GATEWAYS:
        assert "hit" in (await running.ask("apple 0", name)).headers["Cache-Status"]
    assert running.upstream.counts.asked == CALLS
    own = {
        stack.addresses[name]: await metric(
            running.client(name), "gateway_upstream_requests_total", status="200"
        )
        for name in GATEWAYS
    }
    assert sum(own.values()) == CALLS
    assert all(own.values()), "both gateways took part"
    shown = json.loads(await stack.run("gateway-1", "gateway", "usage", "--format", "json"))
    assert [row["images_bought"] for row in shown] == [CALLS]

    async def is_watched() -> bool:
        return await counted_by_prometheus(running) == own

    if "prometheus" in stack.addresses:
        await until(is_watched, 60)


@needs_caddy
@together
async def test_a_broken_or_too_large_body_harms_its_client_alone(running: Running) -> None:
    balancer, asked = running.client("balancer"), running.upstream.counts.asked
    for size in (1_500_000, 3_000_000):
        body = json.dumps({"prompt": "x" * size}).encode()
        headers = {"Content-Type": "application/json"}
        async with aiohttp.ClientSession() as session:  # a refused body ends its connection
            client = Client(session, balancer.url)
            got = await client.post(running.key, headers=headers, data=io.BytesIO(body))
        assert got.error == (413, "invalid_request_error", "body_too_large")
    assert running.upstream.counts.asked == asked
    assert (await running.ask("an orange")).status == 200
    for chunks in BROKEN.values():
        broken = request_bytes(body=chunks, length=None, headers=CHUNKED)
        for _ in range(3):
            # It has no key either: the gateway reports the fault that it meets first.
            assert (await ask(balancer.url, broken)).status in (400, 401)
    for cut in (request_bytes(length=100), request_bytes(headers=CHUNKED, body=b"", length=None)):
        async with wire(balancer.url) as connection:
            await connection.send(cut)
            connection.end()
            # 499: Caddy saw the end before the body, and takes it for a client that left.
            assert (await connection.answer()).status in (400, 401, 499)
    for name in ("an orange", "a plum"):
        assert (await running.ask(name)).status == 200


@needs_caddy
@together
async def test_a_call_whose_gateway_dies_is_not_sent_again(running: Running) -> None:
    running.upstream.settings.latency = 1.5
    counts = running.upstream.counts
    sold = counts.asked + 4
    asked = asyncio.create_task(running.crowd(*(f"pear {number}" for number in range(4))))
    await until(lambda: counts.asked == sold)
    await running.stack.kill("gateway-1")
    answers = await asked
    assert {got.status for got in answers} == {200, 502}
    # A client that retried would buy a second time.
    assert {got.headers.get("x-should-retry") for got in answers} == {None, "false"}
    assert {got.error for got in answers if got.status != 200} == {NO_ANSWER}
    assert counts.asked == sold
    running.upstream.settings.latency = 0

    # The balancer soon knows which gateway is dead. Until then a call may meet it.
    async def all_are_sold() -> bool:
        nonlocal sold
        got = await running.crowd(*(secrets.token_hex(8) for _ in range(4)))
        sold += tally(got)[200]
        return tally(got).keys() == {200}

    await until(all_are_sold, 30)
    assert counts.asked == sold


@needs_caddy
@together
async def test_with_the_ledger_away_answers_of_the_cache_still_come(running: Running) -> None:
    asked = running.upstream.counts.asked
    for name in running.living:  # each knows the key
        assert (await running.ask("kept", name)).status == 200
    await running.stack.kill("ledger")

    async def is_known() -> bool:
        clients = map(running.client, running.living)
        return 200 not in [(await client.admin("/readyz")).status for client in clients]

    await until(is_known, 60)
    await asyncio.sleep(2 * CHECKED_SECONDS)  # the balancer has checked them since
    for _ in range(4):
        assert (await running.ask("kept")).headers["Age"]
    assert (await running.ask("new")).error == (503, "server_error", "store_unavailable")
    assert running.upstream.counts.asked == asked + 1


@needs_caddy
@together
async def test_without_any_gateway_clients_may_ask_again(running: Running) -> None:
    for name in running.living:
        await running.stack.kill(name)

    async def may_ask_again() -> bool:
        got = await running.ask("a melon")
        assert got.status in (502, 503)  # the balancer may already know that no gateway is left
        assert got.error[1:] == NO_ANSWER[1:]
        return "x-should-retry" not in got.headers

    await until(may_ask_again, 30)  # the first call may go to a connection from before
