"""Each client gets the picture that was bought, whatever the upstream answers with, and pays once.

The clients are unmodified: only their base URL, key and prompt are set.
"""

import asyncio
import base64
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pytest
from openai import AsyncOpenAI, OpenAI, omit
from openai.types import ImagesResponse

from gateway.upstream.sandbox import Answer, SandboxSettings
from gateway.upstream.sandbox.png import draw
from tests.clients.environments import PROGRAMS, environment, run_program
from tests.support.rig import FLAT, PROMPT, UPSTREAM_KEY, Rig, running_rig

ANSWERS: Sequence[Answer] = ("b64_json", "url")
"""The forms of the upstream's answers."""

Form = Literal["b64_json", "url"]

FORMS: Sequence[Form | None] = (None, "b64_json", "url")
"""What a request asks for."""

DRAWN = draw(sha256(PROMPT.encode()).digest(), 1024, 1024, 0)
"""The picture that the sandbox draws for this prompt."""

CONFIGURATION = f'{FLAT}aliases = ["dall-e-2"]'
"""LangChain's default model is another name of the upstream's."""

PACKAGES = {
    "langchain.py": "langchain",
    "haystack.py": "haystack",
    "litellm.py": "litellm",
    "openai.mjs": "node",
    "ai-openai.mjs": "node",
    "ai-compatible.mjs": "node",
}
"""The programs, and the environments that they need."""


def drawing(answer: Answer) -> SandboxSettings:
    return SandboxSettings(api_key=UPSTREAM_KEY, answer=answer)


async def assert_bought(rig: Rig, pictures: Sequence[str | None]) -> None:
    """Check that one picture was bought and charged, and that these are all this picture.

    Each is its URL, which is opened as its receiver would do, or its base64.
    """
    for picture in pictures:
        assert picture
        if picture.startswith("http"):
            async with rig.session.get(picture) as response:
                opened = await response.read()
        else:
            opened = base64.b64decode(picture)
        assert opened == DRAWN
    assert (rig.sandbox.counts.asked, rig.sandbox.counts.images_drawn) == (1, 1)
    assert (await rig.usage()).images_bought == 1


def pictures_of(response: ImagesResponse, form: Form | None) -> list[str | None]:
    """The pictures of an answer, which must have them in this form (None: any)."""
    assert response.data
    if form:
        return [getattr(image, form) for image in response.data]
    return [image.b64_json or image.url for image in response.data]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_openai_python(tmp_path: Path, answer: Answer) -> None:
    async with running_rig(tmp_path, sandbox=drawing(answer)) as rig:
        key, base_url = await rig.key(), f"{rig.url}/v1"
        pictures: list[str | None] = []
        async with AsyncOpenAI(base_url=base_url, api_key=key) as sdk:
            for form in FORMS:
                response = await sdk.images.generate(prompt=PROMPT, response_format=form or omit)
                pictures += pictures_of(response, form)

        def call() -> None:
            with OpenAI(base_url=base_url, api_key=key) as sdk:
                pictures.extend(pictures_of(sdk.images.generate(prompt=PROMPT), "b64_json"))

        await asyncio.to_thread(call)
        await assert_bought(rig, pictures)


@pytest.mark.exhaustive  # its short sister: test_openai_python
@pytest.mark.timeout(1_200)  # its environment may have to be made
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("program", PACKAGES)
async def test_any_other_client(tmp_path: Path, program: str, answer: Answer) -> None:
    folder = await asyncio.to_thread(environment, PACKAGES[program])
    async with running_rig(tmp_path, CONFIGURATION, drawing(answer)) as rig:
        # LangChain reads nothing but URLs.
        key = await rig.key(deliver="url" if program == "langchain.py" else None)
        variables = {"BASE_URL": f"{rig.url}/v1", "API_KEY": key, "PROMPT": PROMPT}
        output = await asyncio.to_thread(run_program, PROGRAMS / program, folder, variables)
        await assert_bought(rig, json.loads(output))
