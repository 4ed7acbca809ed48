"""OpenAI's clients, unmodified, read streams: the picture, a replay of it, errors, and hang-ups."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from msgspec.structs import replace
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent

from gateway.upstream.sandbox import UpstreamFault
from tests.clients.environments import PROGRAMS, environment, run_program
from tests.support.rig import FLAT, PROMPT, Client, Rig, running_rig
from tests.support.steps import drawing, until
from tests.support.tcp_proxy import tcp_proxy

PNG = b"\x89PNG\r\n\x1a\n"

LATE = {"beat_seconds": 0.05, "latency": 0.4}
"""The head of a stream goes out before its answer."""

COMPLETED = "image_generation.completed"


def set_late(rig: Rig, *, latency: float = LATE["latency"]) -> None:
    rig.gateway.public.beat_seconds = LATE["beat_seconds"]
    rig.sandbox.settings.latency = latency


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path, FLAT) as running:
        yield running


def png_of(event: Any) -> bytes:
    """The picture of the completed event, which must have all that the client reads."""
    assert isinstance(event, ImageGenCompletedEvent)
    ImageGenCompletedEvent.model_validate(event.model_dump())  # the client itself checks nothing
    return base64.b64decode(event.b64_json)


# -- OpenAI's client for Python -----------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
async def test_the_synchronous_client_reads_a_stream(rig: Rig, late: bool) -> None:
    key = await rig.key()
    if late:
        set_late(rig)

    def call() -> list[bytes]:
        with openai.OpenAI(base_url=f"{rig.url}/v1", api_key=key) as sdk:
            stream = sdk.images.generate(prompt=PROMPT, n=2, stream=True, partial_images=2)
            return [png_of(event) for event in stream]

    pictures = await asyncio.to_thread(call)
    assert [picture[:8] for picture in pictures] == [PNG, PNG]
    assert await asyncio.to_thread(call) == pictures
    await rig.assert_books(2)


@pytest.fixture
async def sdk(rig: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=await rig.key()) as client:
        yield client


async def test_the_asynchronous_client_reads_a_stream_and_its_replay(
    rig: Rig, sdk: openai.AsyncOpenAI
) -> None:
    set_late(rig)
    bought, replayed = [
        [png_of(event) async for event in await sdk.images.generate(prompt=PROMPT, stream=True)]
        for _ in range(2)
    ]
    plain = await sdk.images.generate(prompt=PROMPT)
    assert plain.data
    assert plain.usage
    assert bought == replayed == [base64.b64decode(plain.data[0].b64_json or "")]
    await rig.assert_books(1)


async def test_errors_before_the_head_are_raised_as_ever(rig: Rig, sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.images.generate(prompt=PROMPT, n=11, stream=True)
    assert refused.value.param == "n"
    rig.sandbox.faults.append(UpstreamFault(kind="status", status=500, times=1))
    stream = await sdk.images.generate(prompt=PROMPT, stream=True)
    assert [event.type async for event in stream] == [COMPLETED], "it retried"
    assert rig.sandbox.counts.asked == 2


async def test_an_upstream_that_dies_after_the_head_raises_and_is_charged_once(
    rig: Rig, sdk: openai.AsyncOpenAI
) -> None:
    set_late(rig)
    rig.sandbox.fault = UpstreamFault(kind="cut_in_body")
    stream = await sdk.images.generate(prompt=PROMPT, stream=True)
    with pytest.raises(openai.APIError, match="cut off") as raised:
        await anext(stream)
    assert (raised.value.code, raised.value.type) == ("upstream_cut", "upstream_error")
    with pytest.raises(openai.InternalServerError) as repeated:
        await sdk.images.generate(prompt=PROMPT, stream=True)
    assert repeated.value.code == "upstream_cut"
    assert rig.sandbox.counts.asked == 1
    await rig.assert_books(1)


async def test_a_client_that_hangs_up_loses_nothing(rig: Rig, sdk: openai.AsyncOpenAI) -> None:
    set_late(rig)
    stream = await sdk.images.generate(prompt=PROMPT, stream=True)
    await stream.close()
    await until(lambda: rig.gateway.proxy.in_flight == 0)
    again = await sdk.images.generate(prompt=PROMPT, stream=True)
    assert [png_of(event)[:8] async for event in again] == [PNG]
    await rig.assert_books(1)


async def test_a_proxy_that_cuts_silent_connections_loses_nothing(tmp_path: Path) -> None:
    async with (
        running_rig(tmp_path, FLAT, drawing(latency=3.0)) as rig,
        tcp_proxy(int(rig.url.rpartition(":")[2])) as proxy,
    ):
        proxy.patience, key = 2.0, await rig.key(cache=False)
        rig.gateway.public.beat_seconds = 0.1

        async def plain() -> None:
            with pytest.raises(aiohttp.ClientError):
                await Client(rig.session, proxy.url).generate(key, "plain")

        async with openai.AsyncOpenAI(
            base_url=f"{proxy.url}/v1", api_key=key, max_retries=0
        ) as sdk:

            async def streamed() -> list[str]:
                stream = await sdk.images.generate(prompt=PROMPT, stream=True)
                return [event.type async for event in stream]

            _, kinds = await asyncio.gather(plain(), streamed())
        assert kinds == [COMPLETED]
        await until(lambda: rig.sandbox.counts.in_flight == 0)
        await until(lambda: rig.gateway.proxy.ledger.unwritten == 0)
        await rig.assert_books(2)


async def test_partial_images_of_the_upstream_are_read(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, UPSTREAM_STREAM="true") as rig:
        key, base_url = await rig.key(), f"{rig.url}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key=key) as sdk:
            stream = await sdk.images.generate(prompt=PROMPT, stream=True, partial_images=2)
            *partial, completed = [event async for event in stream]
    assert png_of(completed)[:8] == PNG
    for index, event in enumerate(partial):
        assert isinstance(event, ImageGenPartialImageEvent)
        ImageGenPartialImageEvent.model_validate(event.model_dump())
        assert event.partial_image_index == index
        assert base64.b64decode(event.b64_json)[:8] == PNG
    assert len(partial) == 2


# -- OpenAI's client for Node -------------------------------------------------------------------


@pytest.mark.exhaustive  # its short sisters: the tests above
@pytest.mark.timeout(1_200)  # its environment may have to be made
async def test_openai_for_node(rig: Rig) -> None:
    folder = await asyncio.to_thread(environment, "node")
    key = await rig.key()
    variables = {"BASE_URL": f"{rig.url}/v1", "API_KEY": key, "PROMPT": PROMPT}

    async def call(**further: str) -> Any:
        program = PROGRAMS / "openai-stream.mjs"
        output = await asyncio.to_thread(run_program, program, folder, {**variables, **further})
        return json.loads(output)

    plain = (await rig.generate(key)).json["data"][0]["b64_json"]
    replayed = await call()
    assert replayed == {"events": [[COMPLETED, plain]], "failure": None}
    set_late(rig)
    late = await call(PROMPT="late")
    assert [kind for kind, _ in late["events"]] == [COMPLETED]
    assert await call(PROMPT="late") == late
    left = await call(PROMPT="left", LEAVE="1")
    assert left["failure"] is None
    assert await call(PROMPT="left") == left
    await rig.assert_books(3)
    rig.sandbox.fault = UpstreamFault(kind="cut_in_body")
    dead = await call(PROMPT="dead")
    assert dead == {"events": [], "failure": ["APIError", None, "upstream_cut"]}
    again = await call(PROMPT="dead")
    assert again["failure"] == ["InternalServerError", 502, "upstream_cut"]
    await rig.assert_books(4)
    settings, rig.sandbox.fault = rig.gateway.settings, None
    rig.gateway.use(replace(settings, upstream=replace(settings.upstream, stream=True)))
    passed = await call(PROMPT="passed on")
    assert [kind for kind, _ in passed["events"]] == ["image_generation.partial_image", COMPLETED]
    assert await call(PROMPT="passed on") == {"events": passed["events"][1:], "failure": None}
    await rig.assert_books(5)
