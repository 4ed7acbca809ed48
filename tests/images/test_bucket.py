"""A bucket that is away, wrong or slow costs little time, and no secret gets out."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from structlog.testing import capture_logs

from gateway.config.images import ImagesSettings
from gateway.images.bucket import CREDENTIALS_SECONDS, Bucket, check_bucket, read_credentials
from gateway.images.picture import name_of
from gateway.images.place import Away
from gateway.images.store import ImageStore
from tests.support.bucket import SECRET, BucketServer
from tests.support.image_store import BucketBench, picture

PNG = picture(0)
NAME = name_of(PNG) or ""


@pytest.fixture
async def bench(bucket_server: BucketServer) -> BucketBench:
    return BucketBench(bucket_server, await bucket_server.new_bucket())


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """The log, which never has a secret."""
    with capture_logs() as found:
        yield found
    assert "canary" not in str(found)


def end_rest(store: ImageStore) -> None:
    """Let the store ask its bucket again at once, and count its failure as over."""
    assert isinstance(store._place, Bucket)
    store._place._rests_until = 0.0
    store._failed_at -= 60


def prolong_rest(store: ImageStore) -> None:
    """Let the store rest for as long as a slow machine may take."""
    assert isinstance(store._place, Bucket)
    assert store._place._rests_until
    store._place._rests_until += 600


# -- which pictures are there ---------------------------------------------------------------------


async def test_the_bucket_is_asked_for_a_picture_once_a_minute(bench: BucketBench) -> None:
    async with bench.store as store:
        await store.keep(PNG)
        await bench.lose(NAME)
        bench.now += 59
        assert await store.has(NAME)
        bench.now += 2
        assert not await store.has(NAME)


async def test_an_old_picture_is_written_again_and_a_young_one_is_not(bench: BucketBench) -> None:
    bench.use(ttl_seconds=1_000.0, link_seconds=900.0)
    async with bench.store as store:
        await store.keep(PNG)
        await bench.overwrite(NAME, b"mark")
        bench.now += 900
        assert await store.keep(PNG) == NAME
        assert await bench.content(NAME) == b"mark"
        bench.now += 101
        assert await store.keep(PNG) == NAME
        assert await bench.content(NAME) == PNG


async def test_a_link_is_good_for_longer_than_new_ones_are_made(bench: BucketBench) -> None:
    bench.use(ttl_seconds=1_000.0, link_seconds=900.0)
    async with bench.store as store, bench.another() as other:
        await store.keep(PNG)
        bench.now += 1_899
        assert not await other.has(NAME)
        assert await other.size(NAME) == len(PNG)
        assert await other.read(NAME) == PNG


# -- a bucket that fails --------------------------------------------------------------------------


async def test_a_bucket_that_hangs_costs_one_wait(bench: BucketBench, lines: list[Any]) -> None:
    async with bench.store as store:
        await store.keep(PNG)
        bench.server.freeze()
        assert await store.keep(picture(1)) is None
        prolong_rest(store)
        bench.server.thaw()  # nobody asks it
        for _ in range(5):
            assert await store.keep(PNG) is None
            assert not await store.has(NAME)  # although it was there within the last minute
            with pytest.raises(Away):
                await store.size(NAME)
            with pytest.raises(Away):
                await store.read(NAME)
    (line,) = lines
    assert (line["event"], line["reason"]) == ("pictures are not kept", "bucket_away")
    assert line["cause"] == "it did not answer in time"
    assert bench.not_kept == {"bucket_away": 6}


async def test_a_bucket_that_goes_away_is_one_line_and_its_return_another(
    bench: BucketBench, lines: list[Any]
) -> None:
    async with bench.store as store:
        await store.keep(PNG)
        await bench.server.proxy.stop()
        for number in range(3):
            assert await store.keep(picture(number + 1)) is None
            prolong_rest(store)
        await bench.server.proxy.start()
        assert await store.keep(picture(1)) is None  # it rests
        end_rest(store)
        assert await store.keep(picture(1))
        assert await store.read(NAME) == PNG
    assert [line["event"] for line in lines] == ["pictures are not kept", "pictures are kept again"]
    assert lines[0]["cause"] == "it refuses connections"
    assert bench.not_kept == {"bucket_away": 4}


async def test_a_wrong_bucket_is_no_failure_to_start(
    bucket_server: BucketServer, lines: list[Any]
) -> None:
    bench = BucketBench(bucket_server, "no-such-bucket")
    async with bench.store as store:
        assert await store.keep(PNG) is None
        await bucket_server.new_bucket("no-such-bucket")
        end_rest(store)
        assert await store.keep(PNG) == NAME
    assert [line["event"] for line in lines] == ["pictures are not kept", "pictures are kept again"]
    assert (lines[0]["reason"], lines[0]["cause"]) == ("bucket_missing", "there is no such bucket")
    assert bench.not_kept == {"bucket_missing": 2}


async def test_refused_credentials_are_no_failure_to_start(
    bench: BucketBench, lines: list[Any]
) -> None:
    await bench.server.accept_keys(False)
    async with bench.store as store:
        assert await store.keep(PNG) is None
        with pytest.raises(Away) as failure:
            await store.read(NAME)
        assert SECRET not in f"{failure.value!r} {failure.value.cause}"
        await bench.server.accept_keys(True)
        end_rest(store)
        assert await store.keep(PNG) == NAME
    assert (lines[0]["reason"], lines[0]["cause"]) == (
        "not_permitted",
        "PutObject: InvalidAccessKeyId",
    )
    assert bench.not_kept == {"not_permitted": 2}


async def test_a_server_of_something_else_is_no_failure_to_start(
    bench: BucketBench, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(request: web.BaseRequest) -> web.Response:
        return web.Response(status=404, text="no such page")

    async with RawTestServer(serve) as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL", str(other.make_url("")))
        async with bench.another() as store:
            assert await store.keep(PNG) is None
    assert (lines[0]["reason"], lines[0]["cause"]) == ("bucket_away", "PutObject: 404")


async def test_missing_credentials_are_named(
    bench: BucketBench, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    async with bench.another():
        pass
    assert lines[0]["reason"] == "not_permitted"
    assert "AWS_ACCESS_KEY_ID" in lines[0]["cause"]


def test_a_wrong_variable_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", SECRET)
    with pytest.raises(ValueError, match="an AWS_ variable") as fault:
        check_bucket(ImagesSettings(url="s3://bucket"))
    assert SECRET not in str(fault.value)


# -- credentials in a file ------------------------------------------------------------------------


async def test_credentials_come_from_a_file(
    bench: BucketBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = A\naws_secret_access_key = {SECRET}%/+\n")
    bench.use(credentials_file=str(file))
    async with bench.another() as store:
        assert await store.keep(PNG) == NAME


async def test_a_file_that_turns_wrong_is_reported_without_its_content(
    bench: BucketBench, tmp_path: Path, lines: list[Any]
) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = A\naws_secret_access_key = {SECRET}\n")
    bench.use(credentials_file=str(file))
    store = bench.another()
    file.write_text(SECRET)
    async with store:
        pass
    assert lines[0]["reason"] == "not_permitted"
    assert lines[0]["cause"] == "the file of [images] credentials_file cannot be used"


def test_a_changed_file_is_used_soon(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[other]\naws_access_key_id = B\n[default]\naws_access_key_id = A\n"
        "aws_secret_access_key = S%s/+\naws_session_token = T\n"
    )
    found = read_credentials(str(file))
    assert (found["access_key_id"], found["secret_access_key"], found["token"]) == (
        "A",
        "S%s/+",
        "T",
    )
    assert found["expires_at"] is not None
    left = found["expires_at"].timestamp() - time.time()
    assert left <= CREDENTIALS_SECONDS


@pytest.mark.parametrize(
    "content", [b"", SECRET.encode(), b"[default]\naws_access_key_id = canary\n", b"[default\n\xff"]
)
def test_a_wrong_file_is_a_fault(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "credentials"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"must have aws_access_key_id .* \[default\]") as fault:
        check_bucket(ImagesSettings(url="s3://bucket", credentials_file=str(file)))
    assert "canary" not in str(fault.value)
    file.unlink()
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        check_bucket(ImagesSettings(url="s3://bucket", credentials_file=str(file)))
