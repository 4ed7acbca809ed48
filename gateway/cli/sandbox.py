"""The command `gateway sandbox`."""

import asyncio
import os
import signal

import click

from gateway.cli.base import Command
from gateway.server.startup import StartError
from gateway.telemetry.logging import configure_logs
from gateway.upstream.sandbox import Answer, Sandbox, SandboxSettings
from gateway.web.http_server import bind_error


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8081,
    show_default=True,
    help="Port to listen on; 0 takes any free port.",
)
@click.option(
    "--latency",
    metavar="SECONDS",
    type=click.FloatRange(0, 3_600),
    default=0.0,
    show_default=True,
    help="Time to answer a request.",
)
@click.option(
    "--answer",
    type=click.Choice(["b64_json", "url", "both"]),
    default="b64_json",
    show_default=True,
    help="How answers deliver their images.",
)
def sandbox(host: str, port: int, latency: float, answer: Answer) -> None:
    """Run a free replacement for the upstream, for tests and trials.

    It draws real PNGs, which differ by prompt, and costs nothing. It accepts any key, or only the
    one in GATEWAY_SANDBOX_API_KEY. Its route /control shows counts of requests and images, and
    switches faults on.

    \b
    Example:
      gateway sandbox --latency 5 --answer url
    """
    api_key = os.environ.get("GATEWAY_SANDBOX_API_KEY") or None
    settings = SandboxSettings(api_key=api_key, latency=latency, answer=answer)
    configure_logs("warning", "auto")
    asyncio.run(_serve(host, port, settings))


async def _serve(host: str, port: int, settings: SandboxSettings) -> None:
    """Listen until SIGTERM or Ctrl-C. Raises StartError."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    sandbox = Sandbox(settings)
    try:
        await sandbox.start(host, port)
    except OSError as error:
        raise StartError(bind_error(error, host, port, "another --port")) from None
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
