"""LiteLLM's proxy in front of the gateways, as a program in an environment of its own."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from msgspec.structs import replace

from tests.clients.environments import environment
from tests.clients.retrying import Wish
from tests.support.redis import free_port
from tests.support.steps import until

START_SECONDS = 180.0
"""Its start takes ten seconds where nothing else runs."""


@asynccontextmanager
async def litellm(folder: Path, wishes: Mapping[str, Wish]) -> AsyncIterator[dict[str, Wish]]:
    """The proxy, with a model for each of these wishes. Yields the same wishes, made to it.

    It waits for the gateways as long as a wish says, and retries as it does by default. Its own
    clients wait for it patiently.
    """
    programs = await asyncio.to_thread(environment, "litellm")
    port, key = free_port(), f"sk-{secrets.token_hex(16)}"
    models = [_model(name, wish) for name, wish in wishes.items()]
    config, log = folder / "litellm.json", folder / "litellm.log"
    config.write_text(json.dumps({"model_list": models}))
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(programs / "bin" / "litellm", "--config", config),
            *("--host", "127.0.0.1", "--port", str(port)),
            cwd=folder,
            env={
                "HOME": str(folder),
                "LITELLM_MASTER_KEY": key,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is fetched from elsewhere
            },
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"

    async def is_ready() -> bool:
        if process.returncode is not None:
            raise RuntimeError(log.read_text()[-4000:])
        try:
            async with session.get(f"{url}/health/liveliness") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    try:
        async with aiohttp.ClientSession() as session:
            await until(is_ready, START_SECONDS, every=0.2)
        yield {
            name: replace(wish, url=url, key=key, model=name, seconds=START_SECONDS)
            for name, wish in wishes.items()
        }
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _model(name: str, wish: Wish) -> dict[str, Any]:
    return {
        "model_name": name,
        "litellm_params": {
            "model": f"openai/{wish.model}",
            "api_base": f"{wish.url}/v1",
            "api_key": wish.key,
            "timeout": wish.seconds,
            "extra_headers": {"Connection": "close"},
        },
    }
