"""The contract over HTTP: routes, defaults, forwarded fields, keys and headers."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.core import key_format
from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.directory import set_state
from tests.support.raw import PATH, RawAnswer, ask, request_bytes
from tests.support.rig import FLAT, UPSTREAM_KEY, Got, Rig, running_rig

DOCUMENTED = (
    b'{"model":"gpt-image-2","prompt":"A simple red apple on a white table, photorealistic",'
    b'"size":"1024x1024","n":1}'
)
JSON = {"Content-Type": "application/json"}


def received(rig: Rig) -> dict[str, Any]:
    """The body of the last request that arrived upstream."""
    body: dict[str, Any] = json.loads(rig.sandbox.counts.requests[-1].body)
    return body


# -- routes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/images/generations", "/v1/images/generations"])
async def test_the_documented_request_works_on_both_paths(rig: Rig, path: str) -> None:
    answer = await ask(rig.url, request_bytes(await rig.key(), target=path, body=DOCUMENTED))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    image = json.loads(answer.body)
    assert image["created"] > 0
    assert len(image["data"]) == 1
    assert image["data"][0]["b64_json"]
    assert image["usage"]["total_tokens"] > 0
    assert received(rig) == json.loads(DOCUMENTED)


TWO_MODELS = """
[models."gpt-image-2"]
default = true
prices = 0.04
[models."house-style"]
prices = 0.01
"""


@pytest.mark.parametrize("path", ["/api/v1/models", "/v1/models"])
async def test_the_models_are_those_that_the_team_may_use(tmp_path: Path, path: str) -> None:
    async with running_rig(tmp_path, TWO_MODELS) as rig:
        everything = (await rig.get(path, await rig.key("a"))).json
        one = (await rig.get(path, await rig.key("b", models=("house-style", "gone")))).json
        none = (await rig.get(path, await rig.key("c", models=()))).json
        assert (await rig.get(path)).error == (401, "authentication_error", "invalid_api_key")
    assert everything["object"] == "list"
    assert [model["id"] for model in everything["data"]] == ["gpt-image-2", "house-style"]
    assert [model["id"] for model in one["data"]] == ["house-style"]
    assert none == {"object": "list", "data": []}
    assert everything["data"][0] == {
        "id": "gpt-image-2",
        "object": "model",
        "created": 0,
        "owned_by": "image-gateway",
    }


@pytest.mark.parametrize(
    "target",
    [
        "/v1/images/generations/",
        "/v1/images/generations//",
        "//v1/images/generations",
        "/v1//images/generations",
        "/v1/./images/generations",
        "/v1/../v1/images/generations",
        "/x/../v1/images/generations",
        "/v1/%2e%2e/v1/images/generations",
        "/%2e/v1/images/generations",
        "/v1/images%2Fgenerations",
        "/v1/images/generation%73",
        "/%761/images/generations",
        "/V1/images/generations",
        "/v1/Images/Generations",
        "/API/v1/images/generations",
        "/v1/images/generations;x=1",
        "/v1/images/generations%20",
        "/v1/images/generations%00",
        "/v1/images/generations.json",
        "/v1/images/generations%3Fx=1",
        "/v1\\images\\generations",
        "/images/generations",
        "/api/images/generations",
        "/v2/images/generations",
        "/api/api/v1/images/generations",
        "/v1/v1/images/generations",
        "/v1/images/edits",
        "/v1/images/variations",
        "/v1/chat/completions",
        "/v1/models/gpt-image-2",
        "/v1/models/",
        "/v1",
        "/",
        "http://gateway/v1/../v1/images/generations",
        "http://gateway//v1/images/generations",
        "http://gateway/v1/images/generation%73",
        "http://gateway",
    ],
)
async def test_no_variant_of_a_route_reaches_anything(rig: Rig, target: str) -> None:
    key = await rig.key()
    for method in ("POST", "GET"):
        answer = await ask(rig.url, request_bytes(key, method=method, target=target))
        assert answer.error == (404, "not_found")
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
    assert rig.sandbox.counts.asked == 0


@pytest.mark.parametrize(
    "target", [f"{PATH}?a=b&c", f"{PATH}?", f"{PATH}?/../x", f"http://any.example:9{PATH}"]
)
async def test_a_query_and_the_absolute_form_are_the_same_route_and_are_charged(
    rig: Rig, target: str
) -> None:
    # A server must take the absolute form (RFC 9112, section 3.2.2); its host means nothing here.
    key = await rig.key()
    assert (await ask(rig.url, request_bytes(key, target=target))).status == 200
    assert rig.sandbox.counts.images_drawn == (await rig.usage()).images_bought == 1
    assert (await ask(rig.url, request_bytes(target=target))).status == 401


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"])
async def test_images_are_generated_by_post_alone(rig: Rig, method: str) -> None:
    key = await rig.key()
    for path in ("/v1/images/generations", "/api/v1/images/generations"):
        answer = await ask(rig.url, request_bytes(key, method=method, target=path))
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        if method != "HEAD":
            assert answer.error == (405, "method_not_allowed")
    assert rig.sandbox.counts.asked == 0


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PUT", "DELETE"])
async def test_models_are_read_by_get_alone(rig: Rig, method: str) -> None:
    answer = await ask(rig.url, request_bytes(await rig.key(), method=method, target="/v1/models"))
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("target", ["any.example:443", "*"])
async def test_the_gateway_is_not_a_forward_proxy(rig: Rig, target: str) -> None:
    method = "OPTIONS" if target == "*" else "CONNECT"
    answer = await ask(rig.url, request_bytes(await rig.key(), method=method, target=target))
    assert answer.error == (404, "not_found")


# -- fields -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{}, {"n": None}, {"size": None, "model": None}, {"n": 1, "size": "1024x1024"}]
)
async def test_defaults_are_filled_in_before_anything_is_sent(
    rig: Rig, fields: dict[str, Any]
) -> None:
    assert (await rig.generate(await rig.key(), "apple", **fields)).status == 200
    assert received(rig) == {
        "model": "gpt-image-2",
        "prompt": "apple",
        "size": "1024x1024",
        "n": 1,
    }


async def test_the_configured_defaults_are_the_ones_filled_in(tmp_path: Path) -> None:
    defaults = '[models."gpt-image-2".defaults]\nn = 2\nsize = "1536x1024"\n'
    async with running_rig(tmp_path, FLAT + defaults) as rig:
        got = await rig.generate(await rig.key())
        assert len(got.json["data"]) == 2
        assert (received(rig)["n"], received(rig)["size"]) == (2, "1536x1024")
        assert (await rig.usage()).images_bought == 2


async def test_unknown_fields_go_upstream_with_equal_value(rig: Rig) -> None:
    further = (
        b'"quality":"high","user":null,"background":"opaque","output_format":"png",'
        b'"output_compression":100,"whole":1.0,"exp":1e3,"big":123456789012345678901234567890,'
        b'"text":"\\u00e9\\u0000\\ud83c\\udf4e/","list":[1,null,true,{"a":{}}],"":0,"m":3,"M":4,'
        b'"stream":null,"partial_images":0'
    )
    body = b'{"prompt":"apple",' + further + b"}"
    got = await rig.post(await rig.key(), data=body, headers=JSON)
    assert got.status == 200
    sent, arrived = json.loads(body), received(rig)
    for name, value in sent.items():
        assert (arrived[name], type(arrived[name])) == (value, type(value))
    assert set(arrived) - set(sent) == {"model", "size", "n"}


@pytest.mark.parametrize("stream", [False, None])
async def test_a_stream_that_is_off_is_passed_on(rig: Rig, stream: bool | None) -> None:
    assert (await rig.generate(await rig.key(), stream=stream)).status == 200
    assert received(rig)["stream"] is stream


async def test_the_upstreams_answer_comes_as_it_is(rig: Rig) -> None:
    body = (
        '{ "created":1, "data":[ {"url":"https://x.example/\\u00e9","b64_json":null} ],"new":1.0}'
    )
    rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=body)
    got = await rig.generate(await rig.key())
    assert (got.status, got.body) == (200, body.encode())


# -- keys ---------------------------------------------------------------------------------------


def wrong_checksum(key: str) -> str:
    return key[:-1] + ("0" if key[-1] != "0" else "1")


def never_made() -> str:
    return key_format.mint(secrets.token_bytes)[1]


async def test_every_key_that_does_not_work_gets_the_same_answer(rig: Rig) -> None:
    key = await rig.key()
    expired = await rig.further_key("team", expires=time.time() - 1)
    revoked = await rig.further_key("team")
    await set_state(rig.gateway.store.directory, key_format.normal_id(revoked), "revoked")
    await rig.gateway.directory.refresh()
    id = key_format.normal_id(key)
    lines = [
        "",
        "Authorization:",
        "Authorization: Bearer",
        "Authorization: Bearer ",
        f"Authorization: {key}",
        f"Authorization: Basic {key}",
        f"Authorization: Token {key}",
        f"Authorization: Bearer:{key}",
        f"Authorization: Bearer\t{key}",
        f'Authorization: Bearer "{key}"',
        f"Authorization: Bearer '{key}'",
        f"Authorization: Bearer <{key}>",
        f"Authorization: Bearer {key},",
        f"Authorization: Bearer {key} {key}",
        f"Authorization: Bearer Bearer {key}",
        f"Authorization: Bearer {key}x",
        f"Authorization: Bearer {key[:-1]}",
        f"Authorization: Bearer {key.upper()}",
        f"Authorization: Bearer {key}\xa0",
        f"Authorization: Bearer {wrong_checksum(key)}",
        f"Authorization: Bearer {never_made()}",
        f"Authorization: Bearer sk-gw-{id}",
        f"Authorization: Bearer {id}",
        f"Authorization: Bearer {expired}",
        f"Authorization: Bearer {revoked}",
        f"Authorization: Bearer {UPSTREAM_KEY}",
        f"Authorization: Bearer {'a' * 8_192}",
        f"Authorization: Bearer {key}{'a' * 8_192}",
        f"Authorization: Bearer {key}\r\nAuthorization: Bearer {key}",
        f"Authorization: Bearer {key}\r\nAuthorization: Bearer {never_made()}",
        f"Authorization: Bearer {never_made()}\r\nauthorization: Bearer {key}",
        f"X-Api-Key: {key}",
        f"Api-Key: {key}",
        f"Cookie: key={key}",
        f"Proxy-Authorization: Bearer {key}",
    ]
    answers = []
    for line in lines:
        for method, target in (("POST", PATH), ("GET", "/v1/models")):
            headers = f"{line}\r\n" if line else ""
            request = request_bytes(method=method, target=target, headers=headers)
            answers.append(await ask(rig.url, request))
    assert {answer.error for answer in answers} == {(401, "invalid_api_key")}
    assert len({answer.body for answer in answers}) == 1
    assert len({fixed_headers(answer) for answer in answers}) == 1
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert rig.sandbox.counts.asked == 0
    for scheme in ("Bearer", "bearer", "BEARER", "Bearer  "):
        request = request_bytes(headers=f"Authorization: {scheme} {key}\r\n")
        assert (await ask(rig.url, request)).status == 200


def fixed_headers(answer: RawAnswer) -> str:
    """All headers but those that differ in every answer."""
    return str({**answer.headers, "x-request-id": "", "date": ""})


async def test_a_key_in_the_query_or_the_url_does_not_count(rig: Rig) -> None:
    key = await rig.key()
    for target in (f"{PATH}?api_key={key}", f"http://{key}:x@gateway{PATH}"):
        assert (await ask(rig.url, request_bytes(target=target))).status == 401


async def test_a_disabled_key_is_refused_as_such_and_works_again_later(rig: Rig) -> None:
    key = await rig.key()
    for state, status in (("disabled", 403), ("active", 200)):
        await set_state(rig.gateway.store.directory, key_format.normal_id(key), state)  # type: ignore[arg-type]
        await rig.gateway.directory.refresh()
        got = await rig.generate(key)
        assert got.status == status
    await set_state(rig.gateway.store.directory, key_format.normal_id(key), "disabled")
    await rig.gateway.directory.refresh()
    assert (await rig.generate(key)).error == (403, "permission_error", "key_disabled")
    # Only the whole key gets that answer.
    assert (await rig.generate(wrong_checksum(key))).status == 401


async def test_a_key_is_judged_before_the_body(rig: Rig) -> None:
    assert (await ask(rig.url, request_bytes(body=b"{"))).status == 401
    assert (await ask(rig.url, request_bytes(length=2**40, body=b""))).status == 401


# -- headers sent upstream-----------------------------------------------------------------------


async def test_nothing_of_the_clients_headers_goes_upstream(rig: Rig) -> None:
    key, mark = await rig.key(), secrets.token_hex(8)
    names = [
        "Cookie",
        "OpenAI-Organization",
        "OpenAI-Project",
        "OpenAI-Beta",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Real-IP",
        "Forwarded",
        "Via",
        "Idempotency-Key",
        "X-Api-Key",
        "Proxy-Authorization",
        "Referer",
        "Origin",
        "Traceparent",
        "User-Agent",
        "Accept-Language",
        "Cache-Control",
        "x-stainless-retry-count",
        "X-Made-Up",
    ]
    lines = "".join(f"{name}: {mark}\r\n" for name in names)
    lines += f"Accept: {mark}/x\r\nAccept-Encoding: br\r\nTE: trailers\r\nX-Request-Id: mine\r\n"
    assert (await ask(rig.url, request_bytes(key, headers=lines))).status == 200
    (arrived,) = rig.sandbox.counts.requests
    assert mark not in str(arrived.headers)
    assert key not in str(arrived)
    assert set(arrived.headers) == {
        "host",
        "connection",
        "authorization",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
        "x-request-id",
    }
    assert arrived.headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert arrived.headers["x-request-id"] == "mine"
    assert arrived.headers["accept-encoding"] == "identity"
    assert arrived.headers["host"] == rig.sandbox.url.removeprefix("http://")


# -- headers sent back---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400, 429, 500])
async def test_nothing_of_the_upstreams_headers_comes_through(rig: Rig, status: int) -> None:
    hidden = {
        "Set-Cookie": "session=1; Path=/",
        "x-ratelimit-limit-requests": "7",
        "x-ratelimit-remaining-images": "7",
        "Server": "upstream/7",
        "Via": "1.1 edge",
        "X-Request-Id": "req_upstream",
        "openai-organization": "the-company",
        "x-should-retry": "true",
        "Retry-After-Ms": "7",
        "Keep-Alive": "timeout=7",
        "Connection": "close",
        "Alt-Svc": "h3",
        "CF-Ray": "7",
        "ETag": '"7"',
        "Content-Language": "tlh",
        "Cache-Control": "public, max-age=7",
        "Age": "7",
        "Server-Timing": "upstream-db;dur=7",
        "Location": "https://upstream.example/",
    }
    body = '{"data":[{"b64_json":"aGk="}]}' if status == 200 else '{"error":{"message":"m"}}'
    rig.sandbox.fault = UpstreamFault(kind="status", status=status, body=body, headers=hidden)
    key = await rig.key()
    answer = await ask(rig.url, request_bytes(key))
    assert answer.headers["server"] == "image-gateway"
    names = set(answer.headers) - {"cache-status", "retry-after", "x-gateway-saved-usd"}
    assert names == {
        "content-type",
        "content-length",
        "date",
        "server",
        "x-request-id",
        "x-gateway-cost-usd",
        "server-timing",
    }
    for value in ("req_upstream", "the-company", "upstream/7", "upstream-db", "example", "session"):
        assert value not in str(answer.headers)


async def test_cookies_of_the_upstream_are_neither_kept_nor_passed_on(rig: Rig) -> None:
    rig.sandbox.fault = UpstreamFault(kind="set_cookie")
    key = await rig.key()
    for _ in range(2):
        assert "Set-Cookie" not in (await rig.generate(key, None)).headers
    assert "cookie" not in str(rig.sandbox.counts.requests[-1].headers).lower()


def rate_limits(got: Got) -> dict[str, str]:
    prefix = "x-ratelimit-"
    return {
        name.lower().removeprefix(prefix): value
        for name, value in got.headers.items()
        if name.lower().startswith(prefix)
    }


async def test_limits_show_in_headers_where_they_are_set_and_were_checked(rig: Rig) -> None:
    free = await rig.key("free")
    assert rate_limits(await rig.generate(free)) == {}
    money = await rig.key("money", limits=Limits(cost_per_day=10_000_000, concurrent_requests=5))
    assert rate_limits(await rig.generate(money)) == {}
    paced = await rig.key("paced", limits=Limits(requests_per_minute=2))
    shown = rate_limits(await rig.generate(paced))
    assert (shown["limit-requests"], shown["remaining-requests"]) == ("2", "1")
    assert set(shown) == {"limit-requests", "remaining-requests", "reset-requests"}
    both = await rig.key("both", limits=Limits(images_per_month=9, images_per_day=5))
    shown = rate_limits(await rig.generate(both, n=2))
    assert (shown["limit-images"], shown["remaining-images"]) == ("5", "3")
    assert shown["reset-images"].endswith("s")
    # A hit has no such headers, nor has a refusal before the limits are checked.
    assert rate_limits(await rig.generate(both, n=2)) == {}
    assert rate_limits(await rig.generate(both, n=99)) == {}
    assert rate_limits(await rig.get("/v1/models", both)) == {}
    # A refusal by a limit has them, and so has a failure after that.
    assert rate_limits(await rig.generate(both, None, n=4))["remaining-images"] == "3"
    rig.sandbox.fault = UpstreamFault(kind="status", status=500)
    assert rate_limits(await rig.generate(both, None))["limit-images"] == "5"


async def test_server_timing_shows_where_the_time_went(rig: Rig) -> None:
    rig.sandbox.settings.latency = 0.1
    key = await rig.key()
    bought, hit = await rig.generate(key), await rig.generate(key)
    times = timings(bought)
    assert list(times) == ["auth", "cache", "quota", "upstream", "total"]
    assert 100 <= times["upstream"] <= times["total"]
    assert sum(times.values()) - times["total"] <= times["total"] + 0.05
    assert list(timings(hit)) == ["auth", "cache", "total"]
    # A refused key learns nothing from how long the check took.
    assert "Server-Timing" not in (await rig.generate("sk-gw-unknown")).headers


def timings(got: Got) -> dict[str, float]:
    """The Server-Timing header, in milliseconds."""
    phases = (phase.split(";dur=") for phase in got.headers["Server-Timing"].split(", "))
    return {name: float(milliseconds) for name, milliseconds in phases}
