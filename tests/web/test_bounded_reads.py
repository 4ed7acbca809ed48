"""What a closed connection leaves behind."""

import asyncio
import gc
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from gateway.server.uvloop import Loop
from tests.support.raw import request_bytes
from tests.support.serving import serving
from tests.support.steps import until
from tests.support.tls import Issued


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_a_closed_connection_is_freed_without_garbage_collection(
    tmp_path: Path, is_tls: bool
) -> None:
    """The gateway collects garbage seldom, and a TLS connection has 30 KB."""
    server = client = None
    if is_tls:
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(*Issued().write(tmp_path))
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response()

    def kept() -> int:
        return sum(type(one).__name__ == "BoundedReads" for one in gc.get_objects())

    async def check() -> None:
        async with serving(answer, tls=server) as url:
            gc.collect()
            gc.disable()
            try:
                port = int(url.rpartition(":")[2])
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
                writer.write(request_bytes())
                await reader.readuntil(b"\r\n\r\n")
                assert kept() == 1
                writer.transport.abort()
                await until(lambda: kept() == 0)
            finally:
                gc.enable()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(check())
