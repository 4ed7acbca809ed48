"""Connections to the upstream that are cut, corrupt, slow or stalled at any of their bytes.

Every client gets an answer, and every image that was drawn is recorded.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from gateway.server.gateway import Gateway
from gateway.upstream.sandbox import Sandbox
from tests.support.rig import FLAT, Got, Rig, rig_of, settings_for
from tests.support.steps import drawing, tally
from tests.support.tcp_proxy import Fault, TcpProxy, tcp_proxy

CUT = (502, "upstream_error", "upstream_cut")
LATE = (504, "upstream_error", "upstream_timeout")

LONGEST = 2_500
"""More bytes than a request or a reply has."""

BOTH_WAYS = pytest.mark.parametrize("way", ["request", "reply"])
STEPS = pytest.mark.parametrize("step", [79, pytest.param(7, marks=pytest.mark.exhaustive)])


class Broken:
    """A gateway whose connections to the upstream have faults."""

    def __init__(self, rig: Rig, proxy: TcpProxy, key: str) -> None:
        self.rig = rig
        self._proxy = proxy
        self._key = key

    async def ask(self, faults: Sequence[Fault]) -> list[Got]:
        """The answers to as many requests at once as there are faults."""
        self._proxy.faults = iter(faults)
        asked = (self.rig.generate(self._key, None) for _ in faults)
        return list(await asyncio.gather(*asked))

    async def statuses(self, faults: Sequence[Fault]) -> list[int]:
        """The statuses of as many answers. A picture in them may be corrupt, and no text at all."""
        self._proxy.faults = iter(faults)
        few = asyncio.Semaphore(20)
        url = f"{self.rig.url}/v1/images/generations"
        headers = {"Authorization": f"Bearer {self._key}"}

        async def status(number: int) -> int:
            body = {"prompt": f"{number:016}"}
            async with few, self.rig.session.post(url, headers=headers, json=body) as got:
                await got.read()
                return got.status

        return list(await asyncio.gather(*map(status, range(len(faults)))))


@asynccontextmanager
async def running(folder: Path, deadline: float) -> AsyncIterator[Broken]:
    """A gateway that waits so many seconds for its upstream."""
    seconds = {
        "UPSTREAM_CONNECT_SECONDS": str(deadline / 2),
        "UPSTREAM_TIMEOUT_SECONDS": str(deadline),
    }
    async with (
        Sandbox(drawing()) as upstream,
        tcp_proxy(int(upstream.url.rpartition(":")[2])) as proxy,
        rig_of(Gateway(settings_for(folder, proxy, FLAT, **seconds)), upstream) as rig,
    ):
        yield Broken(rig, proxy, await rig.key())


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[Broken]:
    async with running(tmp_path, deadline=60) as broken:
        yield broken


@BOTH_WAYS
@STEPS
async def test_a_cut_is_charged_wherever_it_is(
    broken: Broken, way: Literal["request", "reply"], step: int
) -> None:
    places = range(0, LONGEST, step)
    ends = [(await broken.ask([Fault(kind="cut", way=way, at=at)]))[0] for at in places]
    cuts = tally(ends)[CUT]
    # The last places are behind the end.
    assert 0 < cuts < len(places)
    assert [got.status for got in ends] == [502] * cuts + [200] * (len(places) - cuts)
    drawn = broken.rig.sandbox.counts.images_drawn
    assert drawn == (len(places) if way == "reply" else len(places) - cuts)
    usage = await broken.rig.usage()
    assert (usage.images_bought, usage.images_unknown) == (len(places), cuts)


@BOTH_WAYS
@STEPS
async def test_a_corrupt_byte_loses_no_image(
    broken: Broken, way: Literal["request", "reply"], step: int
) -> None:
    faults = [Fault(kind="corrupt", way=way, at=at) for at in range(0, LONGEST, step)]
    ends = Counter(await broken.statuses(faults))
    assert set(ends) <= {200, 400, 404, 502, 504}
    assert 0 < ends[200] < len(faults)
    usage = await broken.rig.usage()
    assert usage.images_bought >= broken.rig.sandbox.counts.images_drawn
    assert usage.images_bought - usage.images_unknown == ends[200]


async def test_slow_bytes_and_short_stalls_are_waited_for(broken: Broken) -> None:
    faults = [
        Fault(kind=kind, way=way, at=at, seconds=0.01, length=20)
        for kind in ("slow", "stall")
        for way in ("request", "reply")
        for at in (0, 100, 300)
    ]
    assert tally(await broken.ask(faults)) == {200: len(faults)}


async def test_a_stall_ends_at_the_deadline(tmp_path: Path) -> None:
    faults = [Fault(kind="stall", way="reply", at=at) for at in (0, 100, 300)]
    faults += [Fault(kind="stall", way="request", at=at) for at in (0, 100)]
    async with running(tmp_path, deadline=1.5) as broken:
        assert tally(await broken.ask(faults)) == {LATE: len(faults)}
        assert (await broken.rig.usage()).images_unknown == len(faults)
        assert broken.rig.sandbox.counts.images_drawn == 3
