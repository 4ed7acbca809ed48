"""Compressed request bodies: the limit, damaged ones, and those made to keep the gateway busy."""

import asyncio
import gzip
import zlib
from collections.abc import Callable
from contextlib import suppress
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BodyTooLarge, InvalidRequest, RateLimited, WrongContentEncoding
from gateway.web.body_budget import BodyBudget, BodyLimits, BodyShare
from gateway.web.inflate import inflate, read_codings

MIB = 1_048_576


def share(most: int = 4 * MIB) -> tuple[BodyBudget, BodyShare]:
    budget = BodyBudget(lambda: BodyLimits(most, most), lambda: 0.0)
    return budget, BodyShare(budget, "key")


async def inflated(body: bytes, *codings: str, limit: int = MIB) -> bytes:
    return await inflate(body, list(codings), limit, share()[1])


def raw(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


PACK: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw),
}


@given(st.binary(max_size=3_000), st.sampled_from(sorted(PACK)), st.integers(1, 300))
def test_a_body_is_inflated_unchanged(data: bytes, kind: str, times: int) -> None:
    coding, pack = PACK[kind]
    whole = data * times
    assert asyncio.run(inflated(pack(whole), coding)) == whole


async def test_several_codings_are_undone_from_the_last() -> None:
    body = gzip.compress(raw(zlib.compress(b"{}")))
    assert await inflated(body, "deflate", "deflate", "gzip") == b"{}"
    assert await inflated(b"", "gzip") == b""


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 999_999, MIB])
async def test_the_limit_counts_inflated_bytes(kind: str, size: int) -> None:
    coding, pack = PACK[kind]
    packed = pack(b"x" * size)
    assert len(await inflated(packed, coding, limit=max(1, size))) == size
    if size:
        with pytest.raises(BodyTooLarge):
            await inflated(packed, coding, limit=size - 1)


async def test_a_bomb_stops_at_the_limit() -> None:
    budget, own = share()
    bomb = gzip.compress(bytes(20 * MIB))
    started = thread_time()
    for body, codings in ((bomb, ["gzip"]), (gzip.compress(bomb), ["gzip", "gzip"])):
        with pytest.raises(BodyTooLarge):
            await inflate(body, codings, MIB, own)
    assert thread_time() - started < 0.5
    assert budget.total <= MIB
    own.release()
    assert budget.total == 0


async def test_others_go_on_while_long_ones_are_inflated() -> None:
    """Also a body of empty blocks alone: it is all effort and no data."""
    packed, empty = gzip.compress(bytes(MIB)), b"\0\0\0\xff\xff" * 200_000
    turns, longest, last = 0, 0.0, thread_time()

    async def watch() -> None:
        nonlocal turns, longest, last
        while True:
            await asyncio.sleep(0)
            now = thread_time()
            turns, longest, last = turns + 1, max(longest, now - last), now

    watching = asyncio.create_task(watch())
    bodies = [inflated(packed, "gzip") for _ in range(20)]
    assert {len(body) for body in await asyncio.gather(*bodies)} == {MIB}
    with pytest.raises(InvalidRequest):
        await inflated(empty, "deflate")
    watching.cancel()
    assert turns > 20
    assert longest < 0.1, "seconds of this thread"


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("data", [b"{}", b'{"prompt":"a cat"}' * 9_000], ids=["short", "long"])
async def test_what_is_cut_off_or_followed_by_something_is_refused(kind: str, data: bytes) -> None:
    coding, pack = PACK[kind]
    packed = pack(data)
    ends = (packed + b"\0", packed + packed, packed + b"x" * 9_000, packed + bytes(4_096))
    for body in (*ends, packed[:-1], packed[: len(packed) // 2], packed[:1], b"\xff" + packed):
        with pytest.raises(InvalidRequest) as caught:
            await inflated(body, coding)
        assert (caught.value.status, caught.value.code) == (400, "invalid_body")


@given(st.binary(min_size=1, max_size=200))
def test_junk_is_refused_or_inflated(junk: bytes) -> None:
    for coding in ("gzip", "deflate"):
        with suppress(InvalidRequest):
            asyncio.run(inflated(junk, coding))


async def test_inflated_bytes_count_in_the_budget_of_bodies() -> None:
    budget, own = share(most=100_000)
    packed = gzip.compress(b"x" * 100_000)
    own.take(len(packed))
    await inflate(packed, ["gzip"], MIB, own)
    assert budget.total == 100_000, "one body of the greatest size always fits"
    with pytest.raises(RateLimited):
        await inflate(gzip.compress(b"x" * 100_001), ["gzip"], MIB, own)
    own.release()
    assert budget.total == 0


def test_codings_are_read_from_all_lines() -> None:
    assert read_codings([]) == read_codings([""]) == read_codings(["identity", " , "]) == []
    assert read_codings(["GZIP, deflate", "x-gzip"]) == ["gzip", "deflate", "x-gzip"]
    for wrong in (["br"], ["gzip", "zstd"], ["gzip"] * 5, ["gzip gzip"]):
        with pytest.raises(WrongContentEncoding):
            read_codings(wrong)
