"""The models of a key: the list, one of them, and their aliases; and HEAD wherever GET is."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import pytest_asyncio

from tests.support.raw import PATH, request_bytes, wire
from tests.support.rig import ADMIN_TOKEN, Rig, running_rig

MODELS = """
[models."gpt-image-2"]
default = true
aliases = ["dall-e-3", "vendor/draw:1"]
prices = 0.04
[models."vendor/other"]
aliases = ["old"]
prices = 0.01
"""
NAMES = ["gpt-image-2", "vendor/other", "dall-e-3", "vendor/draw:1", "old"]


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path, MODELS) as rig:
        yield rig


async def test_an_unmodified_client_lists_and_finds_models_and_aliases(rig: Rig) -> None:
    async with openai.AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=await rig.key()) as client:
        listed = [model async for model in client.models.list()]
        assert [model.id for model in listed] == NAMES
        for model in listed:
            assert await client.models.retrieve(model.id) == model
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("gpt-4")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.type == "invalid_request_error"


async def test_a_model_is_found_by_its_name_however_that_is_escaped(rig: Rig) -> None:
    key, prefix = await rig.key(), "/api/v1"
    for written in ("vendor/draw:1", "vendor%2Fdraw%3A1", "%76endor/draw:1"):
        got = await rig.get(f"{prefix}/models/{written}", key)
        assert (got.status, got.json["id"], got.json["root"]) == (
            200,
            "vendor/draw:1",
            "gpt-image-2",
        )
    assert (await rig.get(f"{prefix}/models/old")).error[0] == 401
    for written in (
        "OLD",
        "old/",
        "old%00",
        "%ff",
        "%25",
        "x" * 3000,
        "canary",
    ):
        got = await rig.get(f"{prefix}/models/{written}", key)
        assert got.error == (404, "invalid_request_error", "model_not_found"), written
        assert "canary" not in str(got.json)


async def test_a_team_only_finds_what_it_may_use(rig: Rig) -> None:
    key = await rig.key(models=("vendor/other",))
    assert [model["id"] for model in (await rig.models(key)).json["data"]] == [
        "vendor/other",
        "old",
    ]
    for name in ("gpt-image-2", "dall-e-3"):
        assert (await rig.get(f"/v1/models/{name}", key)).status == 404


async def test_an_alias_is_bought_charged_and_cached_as_its_model(rig: Rig) -> None:
    key = await rig.key(models=("gpt-image-2",))
    bought = await rig.generate(key, "a cat", model="dall-e-3")
    assert (bought.status, bought.headers["x-gateway-cost-usd"]) == (200, "0.04")
    hit = await rig.generate(key, "a cat", model="gpt-image-2")
    assert hit.headers["Cache-Status"] == "gateway; hit"
    (sent,) = rig.sandbox.counts.requests
    assert json.loads(sent.body)["model"] == "gpt-image-2"
    assert (await rig.generate(key, model="old")).error[2] == "model_not_allowed"


async def test_head_answers_as_get_does_without_the_body(rig: Rig) -> None:
    key = await rig.key()
    varying = {
        "date",
        "server-timing",
        "x-request-id",
        "etag",
        "content-length",
        "transfer-encoding",
    }
    admin = rig.gateway.admin_url
    for url, token, targets in (
        (rig.url, key, ("/v1/models", "/api/v1/models/old", "/v1/models/none", "/v1/quota")),
        (rig.url, key, ("/v1/usage?by=day", "/nothing", PATH)),
        (rig.url, "wrong", ("/v1/models",)),
        (admin, ADMIN_TOKEN, ("/admin/v1/teams", "/admin/v1/usage?format=csv", "/admin/v1/config")),
        (admin, ADMIN_TOKEN, ("/metrics", "/docs", "/openapi.json", "/readyz", "/admin/v1/none")),
        (admin, "wrong", ("/admin/v1/teams",)),
    ):
        async with wire(url) as connection:
            for target in targets:
                found = []
                for method in ("GET", "HEAD"):
                    request = request_bytes(
                        token, method=method, target=target, body=b"", length=None
                    )
                    await connection.send(request)
                    found.append(await connection.answer(head_only=method == "HEAD"))
                get, head = found
                assert (head.status, head.body) == (get.status, b""), target
                assert {**head.headers, **dict.fromkeys(varying)} == {
                    **get.headers,
                    **dict.fromkeys(varying),
                }, target
            assert await connection.is_open(), "no byte of a body follows"
