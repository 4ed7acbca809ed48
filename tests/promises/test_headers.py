"""Keys and headers over HTTP: what a client sends, what goes upstream, and what comes back."""

import secrets
import time

import pytest

from gateway.core import key_format
from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.directory import set_state
from tests.support.raw import PATH, RawAnswer, ask, request_bytes
from tests.support.rig import UPSTREAM_KEY, Got, Rig

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
        f"Authorization: {key}",
        f"Authorization: Basic {key}",
        f"Authorization: Bearer:{key}",
        f"Authorization: Bearer\t{key}",
        f'Authorization: Bearer "{key}"',
        f"Authorization: Bearer {key},",
        f"Authorization: Bearer {key} {key}",
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
        f"Authorization: Bearer {key}{'a' * 8_192}",
        f"Authorization: Bearer {key}\r\nAuthorization: Bearer {never_made()}",
        f"Cookie: key={key}",
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


async def test_only_the_header_is_read_for_a_key_and_before_the_body(rig: Rig) -> None:
    key = await rig.key()
    for target in (f"{PATH}?api_key={key}", f"http://{key}:x@gateway{PATH}"):
        assert (await ask(rig.url, request_bytes(target=target))).status == 401
    assert (await ask(rig.url, request_bytes(body=b"{"))).status == 401
    assert (await ask(rig.url, request_bytes(length=2**40, body=b""))).status == 401


# -- headers sent upstream-----------------------------------------------------------------------


async def test_nothing_of_the_clients_headers_goes_upstream(rig: Rig) -> None:
    key, mark = await rig.key(), secrets.token_hex(8)
    names = [
        "Cookie",
        "OpenAI-Organization",
        "X-Forwarded-For",
        "Forwarded",
        "Via",
        "Idempotency-Key",
        "X-Api-Key",
        "Proxy-Authorization",
        "Traceparent",
        "User-Agent",
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


@pytest.mark.parametrize("status", [200, 429])
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
        "Connection": "close",
        "ETag": '"7"',
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
    names = (
        set(answer.headers)
        - {"cache-status", "x-gateway-saved-usd"}
        - {"retry-after", "retry-after-ms"}
    )
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
