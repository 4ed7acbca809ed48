"""A gateway under a memory limit: a call that it cannot serve fails and is settled; none hangs."""

import asyncio
import json
import resource
from pathlib import Path

import aiohttp
import pytest

from gateway.upstream.sandbox import Sandbox
from gateway.upstream.sandbox.state import UpstreamFault
from tests.support.process import running_process
from tests.support.rig import Client
from tests.support.steps import drawing, key_in, until

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits as on Linux"),
]

MIB = 1 << 20
CALLS = 12
IMAGE_BYTES = 20 * MIB
NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def address_space(pid: int) -> int:
    """The address space of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("room", [10 * MIB, 60 * MIB, 200 * MIB])
async def test_calls_that_do_not_fit_into_memory_fail_and_are_settled(
    tmp_path: Path, room: int
) -> None:
    key = await key_in(tmp_path)
    answer = {"created": 1, "data": [{"b64_json": "A" * IMAGE_BYTES}]}
    large = UpstreamFault(kind="status", status=200, body=json.dumps(answer), draws=True)
    async with (
        Sandbox(drawing()) as upstream,
        running_process(tmp_path, upstream.url) as gateway,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        client = Client(session, gateway.url, gateway.admin_url)
        upstream.fault = large
        limit = address_space(gateway.pid) + room
        resource.prlimit(gateway.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        async with asyncio.timeout(60):  # the upstream's deadline is 300 s
            answers = await asyncio.gather(*(client.generate(key) for _ in range(CALLS)))
        resource.prlimit(gateway.pid, resource.RLIMIT_AS, NO_LIMIT)
        failed = [got for got in answers if got.status != 200]
        assert failed
        assert all(got.headers["x-should-retry"] == "false" for got in failed), failed

        upstream.fault = None
        assert (await client.generate(key)).status == 200

        async def is_settled() -> bool:
            (row,) = (await client.get("/v1/usage", key)).json["usage"]
            return (row["images_bought"], row["images_unknown"]) == (CALLS + 1, len(failed))

        await until(is_settled)
        assert upstream.counts.calls == CALLS + 1
