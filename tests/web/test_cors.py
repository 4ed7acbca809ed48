"""Web pages of other origins: preflights, and the headers that show them each answer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from msgspec.structs import replace

from gateway.upstream.sandbox.state import SandboxSettings
from gateway.web.body import SMALL_BYTES
from gateway.web.cors import is_preflight, origin_headers
from tests.support.browser import running_browser
from tests.support.raw import PATH, RawAnswer, ask, request_bytes
from tests.support.rig import UPSTREAM_KEY, Rig, running_rig
from tests.support.serving import serving

APP, OTHER = "https://app.example.com", "https://evil.example"
ORIGIN, VARY = "access-control-allow-origin", "vary"


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway for two origins."""
    origins = f'["{APP}", "http://localhost:5173"]'
    async with running_rig(tmp_path, SERVER_ALLOWED_ORIGINS=origins) as rig:
        yield rig


def allow(rig: Rig, *origins: str) -> None:
    settings = rig.gateway.settings
    rig.gateway.use(replace(settings, server=replace(settings.server, allowed_origins=origins)))


async def preflight(rig: Rig, origin: str = APP, target: str = PATH, extra: str = "") -> RawAnswer:
    headers = f"Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n{extra}"
    request = request_bytes(method="OPTIONS", target=target, headers=headers, body=b"", length=None)
    return await ask(rig.url, request)


async def test_a_preflight_needs_no_key_and_costs_nothing(rig: Rig) -> None:
    asked = "Access-Control-Request-Headers: authorization,content-type,x-stainless-os\r\n"
    for target in (PATH, f"/api{PATH}", f"{PATH}?x=1"):
        answer = await preflight(rig, target=target, extra=asked)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers[ORIGIN] == APP
        assert answer.headers["access-control-allow-methods"] == "POST"
        names = answer.headers["access-control-allow-headers"].lower().split(", ")
        assert {"authorization", "content-type", "cache-control", "idempotency-key"} <= set(names)
        assert {"x-stainless-os", "x-stainless-retry-count", "x-request-id", "*"} <= set(names)
        assert answer.headers["access-control-max-age"] == "7200"
        assert "access-control-allow-credentials" not in answer.headers
        assert not {"content-type", "content-length", "server-timing"} & answer.headers.keys()
        assert (answer.headers[VARY], answer.headers["server"]) == ("Origin", "image-gateway")
    models = await preflight(rig, "http://localhost:5173", "/v1/models")
    assert models.headers["access-control-allow-methods"] == "GET, HEAD"
    assert (await preflight(rig, target="/nothing")).error == (404, "not_found")
    assert (await rig.usage()).requests == rig.sandbox.counts.asked == 0


async def test_every_answer_names_the_origin_errors_too(rig: Rig) -> None:
    key = await rig.key()
    origin = f"Origin: {APP}\r\n"
    wrong = request_bytes(key, headers=origin).replace(b"application/json", b"text/plain")
    for request, status in (
        (request_bytes(key, headers=origin), 200),
        (request_bytes(key, headers=origin), 200),
        (request_bytes(headers=origin), 401),
        (request_bytes(key, headers=origin, body=b"{"), 400),
        (request_bytes(key, headers=origin, body=b"", length=2_000_000), 413),
        (wrong, 415),
        (request_bytes(key, headers=origin, target="/v1/models", method="GET"), 200),
        (request_bytes(key, headers=origin, target="/v1/usage", method="GET"), 200),
        (request_bytes(key, headers=origin, target="/nothing"), 404),
        (request_bytes(key, headers=origin, method="OPTIONS"), 405),
    ):
        answer = await ask(rig.url, request)
        assert answer.status == status
        assert (answer.headers[ORIGIN], answer.headers[VARY]) == (APP, "Origin")
        shown = answer.headers["access-control-expose-headers"].split(", ")
        assert {"X-Request-Id", "Retry-After", "x-gateway-cost-usd", "Cache-Status"} <= set(shown)


async def test_a_large_answer_names_the_origin(tmp_path: Path) -> None:
    """It is sent in slices, before the answers of other routes get their headers."""
    drawn = SandboxSettings(api_key=UPSTREAM_KEY)
    async with running_rig(tmp_path, "", drawn, SERVER_ALLOWED_ORIGINS=f'["{APP}"]') as rig:
        line = f"Origin: {APP}\r\n"
        answer = await ask(rig.url, request_bytes(await rig.key(), headers=line))
    assert len(answer.body) > SMALL_BYTES
    assert answer.headers[ORIGIN] == APP


async def test_no_other_origin_is_named(rig: Rig) -> None:
    key = await rig.key()
    odd = (OTHER, "null", "*", "", f"{APP}:443", f"{APP}.evil.example", APP.upper(), f"{APP}/")
    for origin in (*odd, f" {APP} x"):
        answer = await ask(rig.url, request_bytes(key, headers=f"Origin: {origin}\r\n"))
        assert answer.status == 200
        assert ORIGIN not in answer.headers, origin
        assert answer.headers[VARY] == "Origin", "a shared cache must not give this to a page"
        refused = await preflight(rig, origin)
        assert refused.error == (405, "method_not_allowed")
        assert ORIGIN not in refused.headers, origin


async def test_all_origins_and_none(rig: Rig) -> None:
    key, line = await rig.key(), f"Origin: {OTHER}\r\n"
    allow(rig, "*")
    assert (await ask(rig.url, request_bytes(key, headers=line))).headers[ORIGIN] == "*"
    assert (await preflight(rig, OTHER)).status == 204
    allow(rig)
    answer = await ask(rig.url, request_bytes(key, headers=line))
    assert not {ORIGIN, VARY, "access-control-expose-headers"} & answer.headers.keys()
    assert (await preflight(rig, OTHER)).error == (405, "method_not_allowed")


FETCH = """async ([url, key]) => {
    const headers = {Authorization: `Bearer ${key}`, "Content-Type": "application/json",
                     "x-stainless-os": "Linux", "Idempotency-Key": "1"};
    const body = JSON.stringify({prompt: "a cat"});
    try {
        const answer = await fetch(`${url}/v1/images/generations`, {method: "POST", headers, body});
        const names = ["x-gateway-cost-usd", "x-request-id", "cache-status"];
        return [answer.status, names.every((name) => answer.headers.get(name) || !answer.ok)];
    } catch (error) {
        return error.name;
    }
}"""


@pytest.mark.exhaustive
async def test_a_real_browser_lets_the_page_of_an_allowed_origin_alone_call(rig: Rig) -> None:
    async def page_of(request: web.BaseRequest) -> web.Response:
        return web.Response(text="<!doctype html>", content_type="text/html")

    key = await rig.key()
    async with serving(page_of) as origin, running_browser() as browser:
        page = await browser.new_page()
        await page.goto(origin)
        assert await page.evaluate(FETCH, [rig.url, key]) == "TypeError"
        for allowed in (origin, "*"):
            allow(rig, allowed)
            assert await page.evaluate(FETCH, [rig.url, key]) == [200, True]
            assert await page.evaluate(FETCH, [rig.url, "wrong"]) == [401, True]
    assert rig.sandbox.counts.images_drawn == 1


def test_only_a_question_of_a_browser_is_a_preflight() -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    assert is_preflight("OPTIONS", asked)
    assert not is_preflight("POST", asked)
    for name in asked:
        assert not is_preflight("OPTIONS", {key: asked[key] for key in asked if key != name})
    assert origin_headers((), APP) == {}
    assert origin_headers((APP,), None) == {"Vary": "Origin"}
