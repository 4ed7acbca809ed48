"""Clients that ask for one image and retry in their own way: one call is one wish.

Each of them takes a new connection for each attempt.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import openai
from msgspec import Struct

from tests.support.rig import Client

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


def blunt(session: aiohttp.ClientSession, pause: float) -> Ask:
    """A client that repeats a call after every 5xx, 429, cut and timeout, without any mark.

    It repeats after `pause` seconds: a hang-up must reach the other gateways within that. The
    session must not keep connections.
    """

    async def ask(wish: Wish) -> str:
        end = ""
        for _ in range(1 + BLUNT_REPEATS):
            try:
                async with asyncio.timeout(wish.seconds):
                    got = await Client(session, wish.url).generate(wish.key, wish.prompt)
            except (TimeoutError, aiohttp.ClientError) as failure:
                end = type(failure).__name__
            else:
                if got.status == 200:
                    return DELIVERED
                end = got.error[2]
                if got.status < 500 and got.status != 429:
                    return end
            await asyncio.sleep(pause)
        return end

    return ask


def official(sdk: openai.AsyncOpenAI) -> Ask:
    """OpenAI's own client, with as many retries as it has by default."""

    async def ask(wish: Wish) -> str:
        own = sdk.with_options(
            base_url=f"{wish.url}/v1",
            api_key=wish.key,
            timeout=wish.seconds,
            default_headers={"Connection": "close"},
        )
        try:
            await own.images.generate(model=wish.model, prompt=wish.prompt)
        except openai.APIStatusError as error:
            return str(error.code)
        except openai.APIError as error:
            return type(error).__name__
        return DELIVERED

    return ask
