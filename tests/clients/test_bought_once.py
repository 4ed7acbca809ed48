"""One call of a client buys at most one image, however the client retries and whatever is cut."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import openai
import pytest

from tests.clients.litellm import litellm
from tests.clients.matrix import TROUBLES, cells_of, matrix
from tests.clients.retrying import DELIVERED, Ask, Wish, blunt, official, streaming
from tests.support.replicas import running_gateways, running_replicas
from tests.support.rig import FLAT, UPSTREAM_KEY
from tests.support.steps import drawing, tally, until
from tests.support.tcp_proxy import tcp_proxy

SUDDEN = ("upstream cut before headers", "upstream 504", "client cut before headers")
"""Troubles whose tests do not wait for timeouts."""


class Clients:
    """The clients that run in this process, with sessions that they share."""

    def __init__(self, session: aiohttp.ClientSession, sdk: openai.AsyncOpenAI) -> None:
        self._session = session
        self._sdk = sdk

    def asks(self, pause: float) -> dict[str, Ask]:
        """The clients by name. `pause` is that of the blunt one, in seconds."""
        return {"openai-python": official(self._sdk), "blunt": blunt(self._session, pause)}

    def streams(self, pause: float) -> dict[str, Ask]:
        """The clients that read streams, by name. `pause` is that before they repeat a call."""
        return {
            "openai-python": streaming(self._sdk, pause),
            "blunt": blunt(self._session, pause, stream=True),
        }


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        openai.AsyncOpenAI(api_key=UPSTREAM_KEY) as sdk,
    ):
        yield Clients(session, sdk)


async def test_a_call_buys_one_image(tmp_path: Path, clients: Clients) -> None:
    asks = clients.asks(pause=0.5)
    async with matrix(tmp_path, cells_of(1, asks), beat=2.0) as running:
        assert await running.run(asks) == ""


async def test_a_call_over_two_gateways_buys_one_image(tmp_path: Path, clients: Clients) -> None:
    asks = clients.asks(pause=0.5)
    async with matrix(tmp_path, cells_of(2, asks, SUDDEN, [False])) as running:
        assert await running.run(asks) == ""


@pytest.mark.parametrize(
    ("head", "passed_on"),
    [
        (0.3, "false"),
        pytest.param(None, "false", marks=pytest.mark.exhaustive),
        pytest.param(None, "true", marks=pytest.mark.exhaustive),
    ],
)
async def test_a_stream_buys_one_image(
    tmp_path: Path, clients: Clients, head: float | None, passed_on: str
) -> None:
    asks, stream = clients.streams(pause=0.5), {"UPSTREAM_STREAM": passed_on}
    async with matrix(tmp_path, cells_of(1, asks), beat=2.0, head=head, **stream) as running:
        assert await running.run(asks) == ""


@pytest.mark.parametrize(
    ("passed_on", "troubles"),
    [("true", SUDDEN), pytest.param("false", TROUBLES, marks=pytest.mark.exhaustive)],
)
async def test_a_stream_over_two_gateways_buys_one_image(
    tmp_path: Path, clients: Clients, passed_on: str, troubles: Iterable[str]
) -> None:
    asks, stream = clients.streams(pause=0.5), {"UPSTREAM_STREAM": passed_on}
    cells = cells_of(2, asks, troubles, [False])
    beat = 1.0 if troubles is SUDDEN else 2.0
    async with matrix(tmp_path, cells, beat=beat, head=0.3, **stream) as running:
        assert await running.run(asks) == ""


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)  # the environment of LiteLLM's proxy may have to be made
async def test_the_whole_matrix(tmp_path: Path, clients: Clients) -> None:
    asks = clients.asks(pause=1.0)
    asks["litellm"] = asks["openai-python"]
    async with AsyncExitStack() as running:
        matrices = []
        for count in (1, 2):
            (folder := tmp_path / f"{count}").mkdir()
            cells = matrix(folder, cells_of(count, asks), beat=2.0)
            matrices.append(await running.enter_async_context(cells))
        wishes = {name: wish for each in matrices for name, wish in each.wishes("litellm").items()}
        through = await running.enter_async_context(litellm(tmp_path, wishes))
        for each in matrices:
            assert await each.run(asks, through) == ""


@pytest.mark.parametrize("count", [1, 2])
async def test_equal_wishes_at_once_without_cache_are_bought_each(
    tmp_path: Path, count: int
) -> None:
    async with running_gateways(tmp_path, count, drawing(latency=0.3)) as gateways:
        key = await gateways.key(cache=False)
        assert tally(await gateways.crowd(key, 20)) == {200: 20}
        assert gateways.sandbox.counts.images_drawn == 20
        assert (await gateways.rigs[0].usage()).images_bought == 20


@pytest.mark.exhaustive  # its short sister: tests/upstream/test_client.py
@pytest.mark.parametrize(
    ("count", "cache", "names"),
    [
        (1, True, ("openai-python", "blunt")),
        (1, False, ("openai-python", "blunt")),
        (2, True, ("openai-python", "blunt")),
        # The other gateway cannot know that the client of an unmarked repeat left the first one.
        (2, False, ("openai-python",)),
    ],
)
async def test_an_answer_that_a_gateway_reads_long_after_the_deadline_is_the_only_one(
    tmp_path: Path, clients: Clients, count: int, cache: bool, names: tuple[str, ...]
) -> None:
    """The gateway stands still, while its clients give up and repeat their calls."""
    asks = clients.asks(pause=0.5)
    async with running_replicas(
        tmp_path,
        FLAT,
        drawing(latency=0.5),
        shifts=[0.0] * count,
        UPSTREAM_CONNECT_SECONDS="1",
        UPSTREAM_TIMEOUT_SECONDS="2",
    ) as replicas:
        key, counts = await replicas.key(cache=cache), replicas.sandbox.counts
        ports = [int(gateway.url.rpartition(":")[2]) for gateway in replicas.gateways]
        first = replicas.gateways[0]
        async with AsyncExitStack() as running:
            calls: list[asyncio.Task[str]] = []
            for name in names:
                proxy = await running.enter_async_context(tcp_proxy(*ports))
                wish = Wish(url=proxy.url, key=key, prompt=name, seconds=2.5)
                calls.append(asyncio.create_task(asks[name](wish)))
            await until(lambda: counts.asked == len(names))
            first.send(signal.SIGSTOP)
            await asyncio.sleep(3.5)
            first.send(signal.SIGCONT)
            assert await asyncio.gather(*calls) == [DELIVERED] * len(names)
        assert counts.images_drawn == len(names)
        await replicas.assert_books(len(names))
