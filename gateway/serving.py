"""Running a gateway as a process: event loop, signals, and the sandbox and demo around it."""

import asyncio
import os
import resource
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from msgspec.structs import replace

from gateway.app import Gateway
from gateway.demo import banner, demo_key, demo_team
from gateway.logs import configure_logs
from gateway.rules.secret import Secret
from gateway.rules.settings import Settings
from gateway.upstream.sandbox import Sandbox, SandboxSettings

log = structlog.get_logger(source="gateway")

SANDBOX_KEY = "sandbox"

ECHO_SECONDS = 1.0
"""A second signal within this time is the first one's echo: `timeout` and some supervisors signal
the process and then its group."""


def run(settings: Settings, *, sandbox: bool, demo: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises StartError.

    `sandbox` puts the stand-in upstream in the real one's place. `demo` makes a demo team and key
    and prints how to use them; it implies the sandbox where no upstream key is configured.
    """
    configure_logs(settings.log.level, settings.log.format)
    _allow_many_files()
    upstream = settings.upstream
    sandbox = sandbox or (demo and upstream.api_key is None and upstream.api_key_file is None)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, sandbox, demo))


async def _serve(settings: Settings, sandbox: bool, demo: bool) -> None:
    stopping = _stop_on_signals()
    async with AsyncExitStack() as running:
        if sandbox:
            settings = await _with_sandbox(settings, running)
        gateway = Gateway(settings)
        await gateway.start()
        running.push_async_callback(gateway.stop)
        if demo:
            await _print_banner(gateway, settings, real=not sandbox)
        await stopping.wait()


async def _with_sandbox(settings: Settings, running: AsyncExitStack) -> Settings:
    """The settings with a sandbox as upstream and a store of its own: play money stays apart."""
    stand_in = Sandbox(SandboxSettings(api_key=SANDBOX_KEY, answer="url"))
    await stand_in.start("127.0.0.1", 0)
    running.push_async_callback(stand_in.stop)
    upstream = replace(
        settings.upstream, base_url=stand_in.url, api_key=Secret(SANDBOX_KEY), api_key_file=None
    )
    path = Path(settings.store.path).with_name("sandbox.db")
    return replace(settings, upstream=upstream, store=replace(settings.store, url=f"sqlite:{path}"))


async def _print_banner(gateway: Gateway, settings: Settings, *, real: bool) -> None:
    file = Path(settings.store.path).with_name("demo.key")
    team = await demo_team(gateway.store, real=real)
    key = await demo_key(gateway.store, gateway.pepper, file)
    await gateway.directory.refresh()
    print(banner(gateway.url, gateway.admin_url, key, team, real=real), flush=True)  # noqa: T201


def _stop_on_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second one leaves at once."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    first: float | None = None

    def stop() -> None:
        nonlocal first
        if first is None:
            first = loop.time()
            stopping.set()
        elif loop.time() - first >= ECHO_SECONDS:
            log.warning("left at once: open holds will be swept and charged as unknown")
            os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopping


def _allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: every connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not installed on every platform, and only quicker
        return None
    return uvloop.Loop
