"""Clients that ask for one image and retry in their own way: one call is one wish.

Each of them takes a new connection for each attempt.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import httpx2
import openai
from msgspec import Struct

from tests.support.events import events_of
from tests.support.rig import Client, Got

DELIVERED = "delivered"
BLUNT_REPEATS = 3


class Wish(Struct, frozen=True, kw_only=True):
    """An image that a client asks for. It waits `seconds` for the answer to each attempt."""

    url: str
    key: str
    prompt: str
    seconds: float
    model: str = "gpt-image-2"


Ask = Callable[[Wish], Coroutine[Any, Any, str]]
"""Asks until it gives up. Returns `DELIVERED`, or the code or name of the last error."""


def blunt(session: aiohttp.ClientSession, pause: float, *, stream: bool = False) -> Ask:
    """A client that repeats a call after every 5xx, 429, cut and timeout, without any mark.

    With `stream` it reads streams, and repeats a call after every error in one. It repeats after
    `pause` seconds: a hang-up must reach the other gateways within that. The session must not keep
    connections.
    """
    fields: dict[str, Any] = {"stream": True} if stream else {}

    async def ask(wish: Wish) -> str:
        end = ""
        for _ in range(1 + BLUNT_REPEATS):
            try:
                async with asyncio.timeout(wish.seconds):
                    got = await Client(session, wish.url).generate(wish.key, wish.prompt, **fields)
            except (TimeoutError, aiohttp.ClientError) as failure:
                end = type(failure).__name__
            else:
                end = _end_of(got, stream)
                if end == DELIVERED or (400 <= got.status < 500 and got.status != 429):
                    return end
            await asyncio.sleep(pause)
        return end

    return ask


def _end_of(got: Got, stream: bool) -> str:
    """`DELIVERED`, or the code of the error."""
    if got.status != 200:
        return got.error[2]
    errors = [event["error"] for event in events_of(got.body) if "error" in event] if stream else []
    return str(errors[0]["code"]) if errors else DELIVERED


def official(sdk: openai.AsyncOpenAI) -> Ask:
    """OpenAI's own client, with as many retries as it has by default."""

    async def ask(wish: Wish) -> str:
        try:
            await _own(sdk, wish).images.generate(model=wish.model, prompt=wish.prompt)
        except openai.APIError as error:
            return str(error.code or type(error).__name__)
        return DELIVERED

    return ask


def streaming(sdk: openai.AsyncOpenAI, pause: float) -> Ask:
    """An application that reads streams with OpenAI's own client.

    That repeats nothing once a stream has begun, so the application repeats the call after a cut,
    after `pause` seconds.
    """

    async def ask(wish: Wish) -> str:
        end = ""
        for _ in range(1 + BLUNT_REPEATS):
            try:
                stream = await _own(sdk, wish).images.generate(
                    model=wish.model, prompt=wish.prompt, stream=True, partial_images=1
                )
                assert [event.type async for event in stream][-1] == "image_generation.completed"
            except (openai.APIConnectionError, httpx2.RequestError) as cut:
                end = type(cut).__name__
            except openai.APIError as error:
                return str(error.code)
            else:
                return DELIVERED
            await asyncio.sleep(pause)
        return end

    return ask


def _own(sdk: openai.AsyncOpenAI, wish: Wish) -> openai.AsyncOpenAI:
    """The client for a wish."""
    return sdk.with_options(
        base_url=f"{wish.url}/v1",
        api_key=wish.key,
        timeout=wish.seconds,
        default_headers={"Connection": "close"},
    )
