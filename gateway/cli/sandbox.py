"""Runs the sandbox as its own process, for `gateway sandbox`."""

import asyncio
import errno
import signal

import click

from gateway.server.startup import StartError
from gateway.telemetry.logging import configure_logs
from gateway.upstream.sandbox import Sandbox, SandboxSettings


def run_sandbox(host: str, port: int, settings: SandboxSettings) -> None:
    """Listen until SIGTERM or Ctrl-C. Raises StartError."""
    configure_logs("warning", "auto")
    asyncio.run(_serve(host, port, settings))


async def _serve(host: str, port: int, settings: SandboxSettings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    sandbox = Sandbox(settings)
    try:
        await sandbox.start(host, port)
    except OSError as error:
        raise StartError(_listen_problem(error, host, port)) from None
    try:
        click.echo(_banner(sandbox.url, own_key=settings.api_key is not None))
        await stopping.wait()
    finally:
        await sandbox.close()


def _banner(url: str, *, own_key: bool) -> str:
    key = "$GATEWAY_SANDBOX_API_KEY" if own_key else "any"
    return f"""\
The sandbox is listening on {url}. Start a gateway in front of it:

GATEWAY_UPSTREAM_BASE_URL={url} GATEWAY_UPSTREAM_API_KEY={key} gateway serve

Ctrl-C stops it."""


def _listen_problem(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use: stop the program that listens there, or choose "
            "another --port."
        )
    return f"Cannot listen on {host} port {port}: {error.strerror}."
