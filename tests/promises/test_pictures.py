"""Every client gets its picture in the form that it reads, and a link that opens.

The upstream's counts say what was bought.
"""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.upstream.sandbox import SandboxSettings
from gateway.upstream.sandbox.png import draw
from gateway.upstream.sandbox.state import Answer
from gateway.web.body import SLICE_BYTES
from tests.support.png import read_png
from tests.support.rig import FLAT, UPSTREAM_KEY, Got, Rig, running_rig
from tests.support.steps import calls, status, until

HIT = "gateway; hit"


@asynccontextmanager
async def answering(
    folder: Path, answer: Answer, toml: str = "", url_ttl: float = 3_600.0
) -> AsyncIterator[Rig]:
    """A gateway whose upstream gives pictures in this form."""
    sandbox = SandboxSettings(api_key=UPSTREAM_KEY, answer=answer, picture="dot", url_ttl=url_ttl)
    async with running_rig(folder, FLAT + toml, sandbox) as rig:
        yield rig


def item(got: Got) -> dict[str, Any]:
    assert got.status == 200, got.body
    (found,) = got.json["data"]
    return {name: value for name, value in found.items() if name in ("url", "b64_json") and value}


async def opened(rig: Rig, url: str, method: str = "GET", **headers: str) -> Got:
    async with rig.session.request(method, url, headers=headers) as response:
        return await Got.read(response)


@pytest.mark.parametrize("answer", ["b64_json", "url", "both"])
async def test_one_purchase_serves_every_form(tmp_path: Path, answer: Answer) -> None:
    async with answering(tmp_path, answer) as rig:
        key = await rig.key()
        first = item(await rig.generate(key))
        picture = base64.b64decode(first["b64_json"])
        read_png(picture)
        assert ("url" in first) == (answer != "b64_json")
        for form, names in (("url", {"url"}), ("b64_json", {"b64_json"}), (None, set(first))):
            got = await rig.generate(key, response_format=form)
            assert (status(got), set(item(got))) == (HIT, names)
            if form == "url":
                url = item(got)["url"]
                assert url.startswith(rig.url if answer == "b64_json" else rig.sandbox.url)
                assert (await opened(rig, url)).body == picture
        for form, names in (
            ("both", {"url", "b64_json"}),
            ("url", {"url"}),
            ("b64_json", {"b64_json"}),
            ("upstream", {"url"} if answer == "url" else set(first)),
        ):
            key = await rig.key(deliver=form)
            got = await rig.generate(key)
            assert (status(got), set(item(got))) == (HIT, names)
        assert calls(rig) == 1
        await rig.assert_books(1)


async def test_a_form_that_was_bought_first_serves_the_others(tmp_path: Path) -> None:
    async with answering(tmp_path, "b64_json", '[images]\ndeliver = "url"\n') as rig:
        key = await rig.key()
        bought = item(await rig.generate(key))
        assert set(bought) == {"url"}
        got = await rig.generate(key, response_format="b64_json")
        assert (status(got), set(item(got))) == (HIT, {"b64_json"})
        assert (await opened(rig, bought["url"])).body == base64.b64decode(item(got)["b64_json"])


async def test_base64_from_the_upstream_stays_byte_for_byte(tmp_path: Path) -> None:
    async with answering(tmp_path, "b64_json") as rig:
        key = await rig.key()
        first = await rig.generate(key)
        assert (await rig.generate(key)).body == first.body
        assert calls(rig) == 1


async def test_a_url_that_ends_soon_is_not_shown(tmp_path: Path) -> None:
    async with answering(tmp_path, "url", url_ttl=299) as rig:
        key = await rig.key()
        for _ in range(2):
            shown = item(await rig.generate(key))
            assert shown["url"].startswith(rig.url)
            assert (await opened(rig, shown["url"])).body == base64.b64decode(shown["b64_json"])
        assert calls(rig) == 1


async def test_no_link_waits_for_slow_fetches(tmp_path: Path) -> None:
    async with answering(tmp_path, "b64_json") as rig:
        key, fetcher = await rig.key(), rig.gateway.proxy.pictures.fetcher
        assert fetcher is not None
        async with fetcher.budget.hold(fetcher.budget.size):
            assert set(item(await rig.generate(key, response_format="url"))) == {"url"}


async def test_no_purchase_waits_for_a_slow_image_store(tmp_path: Path) -> None:
    async with answering(tmp_path, "url") as rig:
        budget = rig.gateway.proxy.pictures.keep_budget
        async with budget.hold(budget.size):
            assert set(item(await rig.generate(await rig.key()))) == {"url", "b64_json"}


async def test_teams_without_cache_and_no_store_get_links(tmp_path: Path) -> None:
    async with answering(tmp_path, "b64_json") as rig:
        key = await rig.key(cache=False, deliver="url")
        assert (await opened(rig, item(await rig.generate(key))["url"])).status == 200
        key = await rig.key("other")
        control = {"Cache-Control": "no-store"}
        got = await rig.generate(key, headers=control, response_format="url")
        assert (await opened(rig, item(got)["url"])).status == 200


async def test_a_picture_that_left_the_store_is_kept_again(tmp_path: Path) -> None:
    async with answering(tmp_path, "b64_json", '[images]\ndeliver = "url"\n') as rig:
        key = await rig.key()
        url = item(await rig.generate(key))["url"]
        for file in (tmp_path / "images").rglob("*.png"):
            file.unlink()
        gone = await opened(rig, url)
        assert gone.error == (404, "invalid_request_error", "picture_gone")
        got = await rig.generate(key)
        assert status(got) == HIT
        assert (await opened(rig, item(got)["url"])).status == 200


# -- links --------------------------------------------------------------------------------------


async def test_a_link_can_be_read_like_any_file(tmp_path: Path) -> None:
    async with answering(tmp_path, "b64_json", '[images]\ndeliver = "url"\n') as rig:
        key = await rig.key()
        url = item(await rig.generate(key))["url"]
        whole = await opened(rig, url)
        headers = whole.headers
        name = urlsplit(url).path.rpartition("/")[2]
        assert headers["ETag"] == f'"{name.partition(".")[0]}"'
        assert headers["Content-Type"] == "image/png"
        life = headers["Cache-Control"].removeprefix("private, immutable, max-age=")
        assert 3_300 < int(life) <= 3_600
        assert headers["Server"] == "image-gateway"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "sandbox"
        alias = await opened(rig, url.replace("/v1/", "/api/v1/", 1))
        assert alias.body == whole.body
        head = await opened(rig, url, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["Content-Length"]) == len(whole.body)
        part = await opened(rig, url, Range="bytes=3-5")
        assert (part.status, part.body) == (206, whole.body[3:6])
        assert part.headers["Content-Range"] == f"bytes 3-5/{len(whole.body)}"
        beyond = await opened(rig, url, Range="bytes=999999-")
        assert beyond.error == (416, "invalid_request_error", "invalid_range")
        assert beyond.headers["Content-Range"] == f"bytes */{len(whole.body)}"
        known = await opened(rig, url, **{"If-None-Match": headers["ETag"]})
        assert (known.status, known.body) == (304, b"")
        stale = await opened(rig, url, Range="bytes=3-5", **{"If-Range": '"other"'})
        assert stale.body == whole.body


async def test_many_slow_readers_of_a_large_picture_hold_a_slice_each(tmp_path: Path) -> None:
    picture = draw(bytes(32), 16, 16) + bytes(5_000_000)
    async with running_rig(tmp_path) as rig:
        files = rig.gateway.public.files
        name = await files.store.keep(picture)
        assert name
        url = files.links.link(rig.url.removesuffix("/v1"), name, 9e9)
        assert (await opened(rig, url)).body == picture
        assert (await opened(rig, url, Range="bytes=1-999999")).body == picture[1:1_000_000]
        files.most_bytes = 2 * SLICE_BYTES
        readers = [await rig.session.get(url) for _ in range(2)]
        full = await opened(rig, url)
        assert (full.status, full.json["error"]["code"]) == (503, "overloaded")
        assert full.headers["Retry-After"]
        assert (await opened(rig, url, "HEAD")).status == 200
        readers[0].close()
        assert await readers[1].read() == picture
        await until(lambda: files._bytes == 0)
        # One that is lost meanwhile is cut off, not filled up.
        async with rig.session.get(url) as response:
            for file in (tmp_path / "images").rglob("*.png"):
                file.unlink()
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_a_changed_or_old_link_is_refused(tmp_path: Path) -> None:
    toml = '[images]\ndeliver = "url"\nlink_seconds = 60\n'
    async with answering(tmp_path, "b64_json", toml) as rig:
        key = await rig.key()
        url = item(await rig.generate(key))["url"]
        refused = (403, "permission_error", "invalid_link")
        for wrong in (url[:-1], url.partition("?")[0], url.replace(".png", ".jpg")):
            assert (await opened(rig, wrong)).error == refused
        files = rig.gateway.public.files
        rig.gateway.public.files = type(files)(files.store, files.links, lambda: files.wall() + 60)
        assert (await opened(rig, url)).error == refused


@pytest.mark.parametrize("name", ["..%2f..%2fpepper", "..", "%2e%2e", ".hidden", "a.png%00"])
async def test_no_path_leads_out_of_the_store(rig: Rig, name: str) -> None:
    links = rig.gateway.public.files.links
    query = urlsplit(links.link("", name, 9e9)).query
    got = await rig.get(f"/v1/images/files/{name}?{query}")
    assert got.status in (403, 404)
    assert got.json["error"]["type"] in ("permission_error", "invalid_request_error")


@pytest.mark.parametrize("end", ["", "/", "/v1", "/api/v1/"])
async def test_links_are_on_the_public_url(tmp_path: Path, end: str) -> None:
    public = f"https://images.example.com/gw{end}"
    toml = f'[images]\ndeliver = "url"\n[server]\npublic_url = "{public}"\n'
    async with answering(tmp_path, "b64_json", toml) as rig:
        url = item(await rig.generate(await rig.key()))["url"]
        assert url.startswith("https://images.example.com/gw/v1/images/files/")


@pytest.mark.parametrize("host", ["gateway.example:81", "[::1]:8080"])
async def test_without_a_public_url_links_are_on_the_host_of_the_request(
    tmp_path: Path, host: str
) -> None:
    async with answering(tmp_path, "b64_json", '[images]\ndeliver = "url"\n') as rig:
        found = item(await rig.generate(await rig.key(), headers={"Host": host}))
        assert found["url"].startswith(f"http://{host}/v1/images/files/")


# -- gateways without links ---------------------------------------------------------------------


async def test_a_gateway_without_links_refuses_to_promise_any(tmp_path: Path) -> None:
    async with answering(tmp_path, "b64_json", "[images]\nenabled = false\n") as rig:
        key = await rig.key()
        got = await rig.generate(key, response_format="url")
        assert got.error == (400, "invalid_request_error", "unsupported_parameter")
        assert got.json["error"]["param"] == "response_format"
        assert calls(rig) == 0
        for form, code in (("url", 400), ("both", 400), ("b64_json", 201)):
            body = {"team": "other", "deliver": form}
            assert (await rig.ask_admin("POST", "teams", json=body)).status == code
        assert set(item(await rig.generate(await rig.key(deliver="url")))) == {"b64_json"}
