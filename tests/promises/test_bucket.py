"""Pictures in a bucket: links work at every gateway, and nobody waits for a bucket that is away."""

import asyncio
import base64
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.images.bucket import PROBE, Bucket
from gateway.upstream.sandbox.png import draw
from tests.support.bucket import BucketServer
from tests.support.process import program
from tests.support.replicas import running_gateways
from tests.support.rig import ADMIN_TOKEN, FLAT, PROMPT, Got, Rig, running_rig
from tests.support.steps import calls, drawing, metric, status
from tests.support.tcp_proxy import Fault
from tests.support.tools import ROOT

HIT = "gateway; hit"
URLS = FLAT + '[images]\ndeliver = "url"\n'
UPSTREAM = {
    "UPSTREAM_BASE_URL": "http://127.0.0.1:1",
    "UPSTREAM_API_KEY": "key-of-the-upstream",
    "ADMIN_TOKEN": ADMIN_TOKEN,
}
SMALL = "1024x640"
DRAWN = drawing(picture="drawn")
AWAY = (503, "server_error", "pictures_unavailable")


async def opened(rig: Rig, url: str, **headers: str) -> Got:
    """Open a link at this gateway."""
    parts = urlsplit(url)
    async with rig.session.get(f"{rig.url}{parts.path}?{parts.query}", headers=headers) as response:
        return await Got.read(response)


def item(got: Got) -> dict[str, Any]:
    assert got.status == 200, got.body
    (found,) = got.json["data"]
    return {name: value for name, value in found.items() if name in ("url", "b64_json") and value}


def bucket_of(rig: Rig) -> Bucket:
    place = rig.gateway.images._place
    assert isinstance(place, Bucket)
    return place


async def test_a_link_of_one_gateway_works_at_the_other(
    tmp_path: Path, bucket_server: BucketServer
) -> None:
    bucket = await bucket_server.new_bucket()
    url = f"s3://{bucket}/pictures"
    async with running_gateways(tmp_path, 2, drawing(), URLS, IMAGES_URL=url) as gateways:
        one, other = gateways.rigs
        key = await gateways.key()
        link = item(await one.generate(key))["url"]
        got = await other.generate(key, response_format="b64_json")
        assert status(got) == HIT
        picture = base64.b64decode(item(got)["b64_json"])
        for rig in (other, one):
            assert (await opened(rig, link)).body == picture
            part = await opened(rig, link, Range="bytes=10-19")
            assert (part.status, part.body) == (206, picture[10:20])
        assert item(await other.generate(key)).keys() == {"url"}
        assert calls(one) == 1
    objects = await bucket_server.objects(bucket).list().collect_async()
    name = urlsplit(link).path.rpartition("/")[2]
    assert {each["path"] for each in objects} == {f"pictures/{name}", f"pictures/{PROBE}"}


async def test_a_large_picture_is_sent_in_slices_and_cut_off_if_the_bucket_goes_away(
    tmp_path: Path, bucket_server: BucketServer
) -> None:
    picture = draw(bytes(32), 16, 16) + bytes(5_000_000)
    url = f"s3://{await bucket_server.new_bucket()}"
    async with running_rig(tmp_path, IMAGES_URL=url) as rig:
        files = rig.gateway.public.files
        name = await files.store.keep(picture)
        assert name
        link = files.links.link(rig.url.removesuffix("/v1"), name, 9e9)
        assert (await opened(rig, link)).body == picture
        part = await opened(rig, link, Range="bytes=1-999999")
        assert part.body == picture[1:1_000_000]
        bucket_server.proxy.delay = 0.2  # for each of twenty slices
        async with rig.session.get(link) as response:
            bucket_server.proxy.faults = repeat(Fault(kind="reset"))
            bucket_server.proxy.cut()
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_without_a_redis_cache_answers_are_in_memory_alone(
    tmp_path: Path, bucket_server: BucketServer
) -> None:
    bucket = await bucket_server.new_bucket()
    async with running_rig(tmp_path, IMAGES_URL=f"s3://{bucket}") as rig:
        key = await rig.key()
        await rig.generate(key)
        assert status(await rig.generate(key)) == HIT
        state = (await rig.ask_admin("GET", "cache")).json
        assert (state["disk"], state["redis"]) == (None, None)
        wanted = {"request": {"prompt": PROMPT}, "team": "team"}
        assert (await rig.ask_admin("POST", "cache/lookup", json=wanted)).json["tier"] == "memory"
        assert 'tier="disk"' not in (await rig.admin("/metrics")).body.decode()
    objects = await bucket_server.objects(bucket).list().collect_async()
    assert [each["path"] for each in objects] == [PROBE]
    assert not (tmp_path / "images").exists()


async def test_a_bucket_that_is_away_fails_no_purchase(
    tmp_path: Path, bucket_server: BucketServer
) -> None:
    url = f"s3://{await bucket_server.new_bucket()}"
    with capture_logs() as lines:
        async with running_rig(tmp_path, URLS, DRAWN, IMAGES_URL=url) as rig:
            key = await rig.key()
            link = item(await rig.generate(key, "one", size=SMALL))["url"]
            await bucket_server.proxy.stop()
            for prompt in ("two", "three"):
                got = await rig.generate(key, prompt, size=SMALL)
                bucket_of(rig)._rests_until += 600  # on a slow machine, too
                assert item(got).keys() == {"b64_json"}
                assert status(got).endswith("stored")
            assert item(await rig.generate(key, "one", size=SMALL)).keys() == {"b64_json"}
            assert (await opened(rig, link)).error == AWAY
            assert (await opened(rig, link)).headers["Retry-After"]
            name = "gateway_pictures_not_kept_total"
            assert await metric(rig, name, reason="bucket_away") == 3
            await bucket_server.proxy.start()
            bucket_of(rig)._rests_until = 0.0
            assert (await opened(rig, link)).status == 200
            got = await rig.generate(key, "two", size=SMALL)
            assert (status(got), set(item(got))) == (HIT, {"url"})
            await rig.assert_books(3)
    assert [line["event"] for line in lines].count("pictures are not kept") == 1


async def test_a_bucket_that_hangs_holds_no_answer(
    tmp_path: Path, bucket_server: BucketServer
) -> None:
    url = f"s3://{await bucket_server.new_bucket()}"
    async with running_rig(tmp_path, URLS, DRAWN, IMAGES_URL=url) as rig:
        key = await rig.key()
        link = item(await rig.generate(key, "one", size=SMALL))["url"]
        bucket_server.freeze()
        first = await asyncio.gather(*(rig.generate(key, f"{n}", size=SMALL) for n in range(20)))
        assert all(item(got).keys() == {"b64_json"} for got in first)
        bucket_of(rig)._rests_until += 600  # on a slow machine, too
        assert item(await rig.generate(key, "two", size=SMALL)).keys() == {"b64_json"}
        assert (await opened(rig, link)).error == AWAY
        bucket_server.thaw()
        bucket_of(rig)._rests_until = 0.0
        assert (await opened(rig, link)).status == 200


# -- starts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "wanted"), [("serve", 1), ("check-config", 2)])
async def test_without_the_extra_a_bucket_is_a_fault(
    tmp_path: Path, command: str, wanted: int
) -> None:
    absent = "raise ModuleNotFoundError('absent', name='obstore')"
    (tmp_path / "obstore.py").write_text(absent)
    async with program(tmp_path, IMAGES_URL="s3://bucket", **UPSTREAM) as gateway:
        gateway.environ = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
        code, _, err = await gateway.run(command)
    assert code == wanted
    assert "it needs the packages of image-gateway[s3]: obstore is not installed" in err
    assert "Traceback" not in err


async def test_no_secret_gets_out_where_the_bucket_refuses_the_keys(
    tmp_path: Path, bucket_server: BucketServer
) -> None:
    url = f"s3://{await bucket_server.new_bucket()}"
    await bucket_server.accept_keys(False)
    async with program(tmp_path, IMAGES_URL=url, LOG_LEVEL="debug", **UPSTREAM) as gateway:
        await gateway.start("serve", variables=bucket_server.environ)
        _, admin = await gateway.listening()
        async with aiohttp.ClientSession() as session:
            pages = []
            for path in ("/metrics", "/admin/v1/config"):
                head = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
                async with session.get(admin + path, headers=head, raise_for_status=True) as page:
                    pages.append(await page.text())
        assert await gateway.terminate() == 0
        assert "PutObject: InvalidAccessKeyId" in gateway.err
        assert 'gateway_pictures_not_kept_total{reason="not_permitted"} 1.0' in pages[0]
        for text in (gateway.err, gateway.out, *pages):
            assert "canary" not in text
