"""The official OpenAI client, unmodified: it generates, raises each error, retries as intended.

Between attempts it waits 0.5 s and 1 s, or as long as Retry-After says.
"""

import asyncio
import base64
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import ImagesResponse

from gateway.core import key_format
from gateway.core.model import Limits
from gateway.quota.account import Account, team_account
from gateway.quota.store import Change
from gateway.upstream.sandbox import UpstreamFault
from tests.support.directory import set_state
from tests.support.rig import FLAT, PROMPT, UPSTREAM_KEY, Rig, running_rig
from tests.support.steps import until

PNG = b"\x89PNG\r\n\x1a\n"

Failure = type[openai.APIStatusError]


def client(rig: Rig, key: str, *, path: str = "/v1", **options: Any) -> OpenAI:
    return OpenAI(base_url=rig.url + path, api_key=key, **options)


async def generate(rig: Rig, key: str, *, max_retries: int = 2, **fields: Any) -> ImagesResponse:
    """One call of the synchronous client, in a thread of its own."""

    def call() -> ImagesResponse:
        with client(rig, key, max_retries=max_retries) as sdk:
            images: ImagesResponse = sdk.images.generate(**{"prompt": PROMPT, **fields})
            return images

    return await asyncio.to_thread(call)


def attempts(rig: Rig) -> int:
    """How many requests the gateway has answered."""
    (family,) = [
        family
        for family in rig.gateway.metrics.registry.collect()
        if family.name == "gateway_requests"
    ]
    return round(sum(each.value for each in family.samples if each.name.endswith("_total")))


# -- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/", "/api/v1"])
async def test_the_synchronous_client_generates(rig: Rig, path: str) -> None:
    key = await rig.key()

    def call() -> ImagesResponse:
        with client(rig, key, path=path) as sdk:
            return sdk.images.generate(model="gpt-image-2", prompt=PROMPT, size="1024x1024", n=2)

    images = await asyncio.to_thread(call)
    assert images.data is not None
    assert len(images.data) == 2
    assert base64.b64decode(images.data[0].b64_json or "").startswith(PNG)
    assert images.usage is not None
    assert images.size == "1024x1024"
    assert (await rig.usage()).images_bought == 2


async def test_the_asynchronous_client_generates_with_nothing_but_a_prompt(rig: Rig) -> None:
    key = await rig.key()
    async with AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=key) as sdk:
        first, second = [await sdk.images.generate(prompt=PROMPT) for _ in range(2)]
        assert first.data == second.data
        raw = await sdk.images.with_raw_response.generate(prompt=PROMPT, quality="high")
    assert raw.headers["x-gateway-cost-usd"] == "0.211"
    assert (await rig.usage()).images_bought == 2


async def test_an_answer_by_url_can_be_opened(rig: Rig) -> None:
    rig.sandbox.settings.answer = "url"
    images = await generate(rig, await rig.key())
    assert images.data is not None
    url = images.data[0].url
    assert url is not None

    def fetch() -> bytes:
        with urllib.request.urlopen(url) as response:
            content: bytes = response.read()
            return content

    assert (await asyncio.to_thread(fetch)).startswith(PNG)


async def test_the_models_are_listed(rig: Rig) -> None:
    key = await rig.key()

    def call() -> list[str]:
        with client(rig, key) as sdk:
            return [model.id for model in sdk.models.list()]

    assert await asyncio.to_thread(call) == ["gpt-image-2"]


async def test_the_clients_organisation_and_project_stay_here(rig: Rig) -> None:
    key = await rig.key()

    def call() -> None:
        with client(rig, key, organization="org-mine", project="proj-mine") as sdk:
            sdk.images.generate(prompt=PROMPT, user="me", extra_body={"seed": None})

    await asyncio.to_thread(call)
    (arrived,) = rig.sandbox.counts.requests
    assert "mine" not in str(arrived.headers)
    assert "stainless" not in str(arrived.headers)
    assert b'"seed":null' in arrived.body


# -- errors that are not retried ----------------------------------------------------------------


async def raised_once(
    rig: Rig, key: str, failure: Failure, code: str | None, *, upstream: int, **fields: Any
) -> openai.APIStatusError:
    """The error of a call that the client must not retry, though it may."""
    before, asked = attempts(rig), rig.sandbox.counts.asked
    with pytest.raises(failure) as raised:
        await generate(rig, key, **fields)
    assert raised.value.code == code
    assert raised.value.request_id
    assert attempts(rig) - before == 1
    assert rig.sandbox.counts.asked - asked == upstream
    return raised.value


async def disable(rig: Rig, key: str) -> None:
    await set_state(rig.gateway.store.directory, key_format.normal_id(key), "disabled")
    await rig.gateway.directory.refresh()


async def test_errors_of_the_caller(rig: Rig) -> None:
    for wrong in ("sk-gw-wrong", UPSTREAM_KEY):
        await raised_once(rig, wrong, openai.AuthenticationError, "invalid_api_key", upstream=0)
    key = await rig.key()
    await disable(rig, key)
    await raised_once(rig, key, openai.PermissionDeniedError, "key_disabled", upstream=0)


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"n": 11}, 400, "integer_above_max_value", "n"),
        ({"model": "dall-e-3"}, 400, "model_not_found", "model"),
        ({"size": "1536x1024"}, 403, "size_not_allowed", "size"),
        ({"extra_headers": {"Content-Encoding": "br"}}, 415, "unsupported_content_type", None),
        ({"extra_headers": {"Cache-Control": "only-if-cached"}}, 504, "not_cached", None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_errors_of_the_request(
    rig: Rig, fields: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    key = await rig.key(sizes=("1024x1024",))
    error = await raised_once(rig, key, openai.APIStatusError, code, upstream=0, **fields)
    kind = "permission_error" if status == 403 else "invalid_request_error"
    assert (error.status_code, error.type, error.param) == (status, kind, param)


async def test_errors_of_the_route(rig: Rig) -> None:
    key = await rig.key()

    def call(use: Callable[[OpenAI], object]) -> None:
        with client(rig, key) as sdk:
            use(sdk)

    unknown: list[tuple[Callable[[OpenAI], object], str]] = [
        (lambda sdk: sdk.models.retrieve("dall-e-3"), "model_not_found"),
        (lambda sdk: sdk.get("/engines", cast_to=object), "not_found"),
    ]
    for use, code in unknown:
        with pytest.raises(openai.NotFoundError) as raised:
            await asyncio.to_thread(call, use)
        assert raised.value.code == code
    with pytest.raises(openai.APIStatusError) as wrong:
        await asyncio.to_thread(call, lambda sdk: sdk.post("/models", cast_to=object))
    assert (wrong.value.status_code, wrong.value.code) == (405, "method_not_allowed")
    assert attempts(rig) == 3


async def test_a_budget_that_is_used_up(rig: Rig) -> None:
    key = await rig.key(limits=Limits(images_per_day=1))
    error = await raised_once(
        rig, key, openai.RateLimitError, "insufficient_quota", upstream=0, n=2
    )
    assert error.type == "insufficient_quota"
    await generate(rig, key)
    await raised_once(
        rig, key, openai.RateLimitError, "insufficient_quota", upstream=0, prompt="another"
    )


@pytest.mark.parametrize(
    ("status", "failure", "code"),
    [
        (404, openai.NotFoundError, "model_not_found"),
        (401, openai.InternalServerError, "upstream_auth"),
        (402, openai.InternalServerError, "upstream_account_exhausted"),
        (502, openai.InternalServerError, "upstream_unknown"),
    ],
)
async def test_an_upstream_error_that_no_retry_mends_is_not_retried(
    rig: Rig, status: int, failure: Failure, code: str
) -> None:
    rig.sandbox.fault = UpstreamFault(kind="status", status=status)
    await raised_once(rig, await rig.key(), failure, code, upstream=1)


async def test_a_picture_that_may_have_been_drawn_is_never_bought_again(rig: Rig) -> None:
    rig.sandbox.fault = UpstreamFault(kind="cut_in_body")
    failure = openai.InternalServerError
    await raised_once(rig, await rig.key(), failure, "upstream_cut", upstream=1)
    assert (await rig.usage()).images_unknown == 1


# -- errors that are retried --------------------------------------------------------------------


async def test_an_upstream_that_fails_twice_is_asked_a_third_time(rig: Rig) -> None:
    rig.sandbox.faults.extend(
        UpstreamFault(kind="status", status=status, times=1) for status in (500, 503)
    )
    assert (await generate(rig, await rig.key())).data
    assert (attempts(rig), rig.sandbox.counts.asked) == (3, 3)
    assert (await rig.usage()).images_bought == 1


async def test_an_upstream_that_cannot_be_reached_is_tried_three_times(rig: Rig) -> None:
    key = await rig.key()
    await rig.sandbox.close()
    with pytest.raises(openai.InternalServerError) as raised:
        await generate(rig, key)
    assert (raised.value.status_code, raised.value.code) == (503, "upstream_unreachable")
    assert attempts(rig) == 3


async def test_without_retries_every_error_is_raised_at_once(rig: Rig) -> None:
    key = await rig.key(limits=Limits(requests_per_minute=1))
    rig.sandbox.fault = UpstreamFault(kind="status", status=500)
    with pytest.raises(openai.InternalServerError):
        await generate(rig, key, max_retries=0)
    with pytest.raises(openai.RateLimitError) as raised:
        await generate(rig, key, max_retries=0)
    assert (raised.value.type, raised.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert (attempts(rig), rig.sandbox.counts.asked) == (2, 1)


async def test_the_upstreams_waits_are_waited_for(rig: Rig) -> None:
    waits = ((429, {"Retry-After": "1"}), (503, {"retry-after-ms": "1100"}))
    rig.sandbox.faults.extend(
        UpstreamFault(kind="status", status=status, headers=headers, times=1)
        for status, headers in waits
    )
    started = time.monotonic()
    assert (await generate(rig, await rig.key())).data
    assert time.monotonic() - started >= 2.1
    assert (attempts(rig), rig.sandbox.counts.asked) == (3, 3)


async def test_a_refusal_because_of_content_is_raised_at_once(rig: Rig) -> None:
    body = '{"error":{"message":"No.","code":"moderation_blocked"}}'
    rig.sandbox.fault = UpstreamFault(kind="status", status=403, body=body)
    key, failure = await rig.key(), openai.PermissionDeniedError
    error = await raised_once(rig, key, failure, "moderation_blocked", upstream=1)
    assert error.type == "upstream_error"


async def test_our_rate_limit_is_waited_for(rig: Rig) -> None:
    key = await rig.key(limits=Limits(requests_per_minute=1))
    # A purchase of almost a minute ago, so that this one fits in a moment.
    loaded = await rig.gateway.store.accounts.load([team_account("team")])
    minute = ((int(loaded.now) - 58, 1),)
    change = Change(team_account("team"), loaded.accounts[0][1], Account(minute=minute))
    assert await rig.gateway.store.accounts.swap([change], [])
    assert (await generate(rig, key)).data
    assert (attempts(rig), rig.sandbox.counts.asked) == (2, 1)


async def test_a_draining_gateway_is_asked_again_elsewhere(rig: Rig) -> None:
    key = await rig.key()
    rig.gateway.proxy.draining = True
    call = asyncio.create_task(generate(rig, key))
    await until(lambda: attempts(rig) == 1)
    # By then another gateway answers at this address.
    rig.gateway.proxy.draining = False
    assert (await call).data
    assert attempts(rig) == 2


async def test_a_full_gateway_is_asked_again(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, SERVER_MAX_IN_FLIGHT="1") as rig:
        key = await rig.key()
        rig.sandbox.settings.latency = 1.5  # the client starts slowly on a busy machine
        first = asyncio.create_task(rig.generate(key, None))
        await until(lambda: rig.sandbox.counts.in_flight == 1)
        rig.sandbox.settings.latency = 0
        assert (await generate(rig, key)).data
        assert (await first).status == 200
        assert (attempts(rig), rig.sandbox.counts.asked) == (3, 2)


async def test_a_gateway_without_its_store_is_asked_again(rig: Rig, tmp_path: Path) -> None:
    key = await rig.key()
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        call = asyncio.create_task(generate(rig, key))
        await until(lambda: attempts(rig) == 1)
        other.execute("ROLLBACK")
    assert (await call).data
    assert (await rig.usage()).images_bought == rig.sandbox.counts.asked == 1


async def test_many_retries_after_a_failure_share_one_purchase(rig: Rig) -> None:
    key = await rig.key()
    rig.sandbox.settings.latency = 0.2
    rig.sandbox.faults.append(UpstreamFault(kind="status", status=500, times=1))
    async with AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=key) as sdk:
        answers = await asyncio.gather(*(sdk.images.generate(prompt=PROMPT) for _ in range(20)))
    assert all(answer.data for answer in answers)
    assert rig.sandbox.counts.asked == 2
    assert (await rig.usage()).images_bought == 1


async def test_a_call_under_a_key_is_bought_once_whatever_happens_to_its_attempts(rig: Rig) -> None:
    """The client sends the header of a call with each of its attempts."""
    key, named = await rig.key(cache=False), {"Idempotency-Key": "order 4711"}
    rig.sandbox.settings.latency = 1.0
    first = await generate(rig, key, timeout=0.6, extra_headers=named)
    assert attempts(rig) > 1
    assert (await generate(rig, key, extra_headers=named)).data == first.data
    assert rig.sandbox.counts.calls == 1
    with pytest.raises(openai.UnprocessableEntityError):
        await generate(rig, key, prompt="another", extra_headers=named)
    assert (await rig.usage()).images_bought == 1
