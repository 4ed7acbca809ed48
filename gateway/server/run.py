"""Running a gateway as a process: event loop, signals, and the sandbox and demo around it."""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import structlog
from msgspec.structs import replace

from gateway.config.files import DEFAULT_CONFIG, load_settings
from gateway.config.settings import ServerSettings, Settings
from gateway.config.values import addresses_of
from gateway.core.faults import Fault
from gateway.core.secret import Secret
from gateway.core.tasks import Background
from gateway.server.demo import banner, demo_key, demo_team, demo_token, picture_link
from gateway.server.files import allow_many_files
from gateway.server.gateway import Gateway
from gateway.server.memory import configure_malloc
from gateway.server.reload import Read, reload
from gateway.server.startup import StartError, data_folder, sandbox_database, typed_program
from gateway.telemetry.logging import finish_logs, logs_of_a_server
from gateway.upstream.sandbox import Answer, Sandbox, SandboxSettings
from gateway.web.http_server import bind_error

log = structlog.get_logger(source="gateway")

SANDBOX_KEY = "sandbox"

ECHO_SECONDS = 1.0
"""A second signal within this time repeats the first one: `timeout` and some supervisors signal
the process and then its group."""

GARBAGE = 5_000
"""New objects between two runs of the garbage collector. Python's default of 700 is reached with
every few calls in flight, although neither cache hits nor purchases leave garbage."""


def run(
    settings: Settings,
    config: Path | None,
    arguments: Mapping[str, str],
    *,
    sandbox: bool,
    demo: bool,
    answer: Answer = "b64_json",
    wall: Callable[[], float] = time.time,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain, after SIGTERM with notice. Raises StartError.

    `config` is the file of the settings (None: the default one). SIGHUP reloads it; the
    environment and the `arguments` of the command line stay as they were.

    `sandbox` replaces the upstream by the sandbox, whose answers have the form `answer`. `demo`
    creates a demo team and key and prints how to use them; without an upstream key it implies
    `sandbox`. `wall` is this machine's clock.
    """
    allow_many_files()
    configure_malloc()
    if config is None and DEFAULT_CONFIG.exists():
        config = DEFAULT_CONFIG  # if it is missing at a reload, that is a fault
    upstream = settings.upstream
    sandbox = sandbox or (demo and upstream.api_key is None and upstream.api_key_file is None)
    with (
        logs_of_a_server(settings.log.level, settings.log.format),
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        read = partial(
            load_settings, config, os.environ, arguments=arguments, needs_upstream=not sandbox
        )
        runner.run(_serve(settings, read, sandbox=sandbox, demo=demo, answer=answer, wall=wall))


async def _serve(
    settings: Settings,
    read: Read,
    *,
    sandbox: bool,
    demo: bool,
    answer: Answer,
    wall: Callable[[], float],
) -> None:
    stopping = _stop_on_signals()
    reloading = _reload_on_hangup(stopping)
    async with AsyncExitStack() as running:
        sandbox_upstream = None
        if sandbox:  # entered first, so that it still answers while the gateway drains
            sandbox_upstream = Sandbox(SandboxSettings(api_key=SANDBOX_KEY, answer=answer))
            running.push_async_callback(sandbox_upstream.close)
            await _start_sandbox(sandbox_upstream, settings.server)
        await _require_free_ports(settings.server)
        settings, token = _prepare(settings, sandbox_upstream, demo)
        gateway = Gateway(settings, wall)
        await gateway.start()
        running.push_async_callback(gateway.stop)
        exempt_code_from_collection()

        def reread() -> tuple[Settings, list[Fault]]:
            found, warnings = read()
            return _prepare(found, sandbox_upstream, demo)[0], warnings

        # Entered last, so that no reload runs while the gateway drains.
        background = await running.enter_async_context(Background("serving"))
        background.spawn(_reload_when(reloading, lambda: reload(gateway, reread)))
        if demo:
            await _print_banner(gateway, settings, token, stopping, real=not sandbox)
        if await stopping == signal.SIGTERM:
            await gateway.give_notice()
        if gateway.flights and sys.stderr.isatty():
            _print_wait(gateway)


async def _start_sandbox(sandbox: Sandbox, server: ServerSettings) -> None:
    """Start it on the port behind the gateway's own, or on any where that is taken.

    The names of cached answers contain the upstream's address: on the same port as before, they
    are found again after a restart.
    """
    port = max(server.port, server.admin_port)
    with suppress(OSError, OverflowError):  # taken, or no port at all
        if port:
            await sandbox.start(port=port + 1)
            return
    await sandbox.start()


async def _require_free_ports(server: ServerSettings) -> None:
    """Raise StartError if a port is in use, before the start creates a pepper and a database."""
    loop = asyncio.get_running_loop()
    for hosts, port in ((server.host, server.port), (server.admin_host, server.admin_port)):
        for host in addresses_of(hosts):
            try:
                bound = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
            except OSError as error:
                raise StartError(bind_error(error, host, port)) from None
            bound.close()


async def _reload_when(wanted: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` each time the event is set. Signals during a run lead to one further run."""
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            await work()
        except Exception as defect:  # the next signal must still have an effect
            log.exception("configuration kept", exc_info=defect)


def _prepare(
    settings: Settings, sandbox: Sandbox | None, demo: bool
) -> tuple[Settings, str | None]:
    """The settings to serve with, and the demo's admin token if there is one. Raises StartError.

    A sandbox has a store of its own and no shared cache, so play money never mixes with real money.
    Cached answers on the disk never do: the upstream is part of their names.
    """
    if sandbox is not None:
        key = Secret(SANDBOX_KEY)
        upstream = replace(
            settings.upstream, base_url=sandbox.url, api_key=key, api_key_file=None, stream=True
        )
        store = replace(settings.store, url=f"sqlite:{sandbox_database(settings)}")
        cache = replace(settings.cache, url="")
        settings = replace(settings, upstream=upstream, store=store, cache=cache)
    if not demo:
        return settings, None
    admin, token = demo_token(settings.admin, data_folder(settings) / "demo-admin.token")
    return replace(settings, admin=admin), token


async def _print_banner(
    gateway: Gateway,
    settings: Settings,
    token: str | None,
    stopping: asyncio.Future[int],
    *,
    real: bool,
) -> None:
    file = data_folder(settings) / "demo.key"
    team = await demo_team(gateway.store.directory, real=real)
    key = await demo_key(gateway.store.directory, gateway.pepper, file)
    await gateway.directory.refresh()
    urls = gateway.url, gateway.admin_url
    link = None
    if not real:
        asking = asyncio.create_task(picture_link(gateway.url, key))
        either: list[asyncio.Future[Any]] = [asking, stopping]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            link = asking.result()
        else:  # a signal has come: it must not wait for the picture
            asking.cancel()
    text = banner(*urls, key, team, token, real=real, program=typed_program(), link=link)
    print(text, flush=True)  # noqa: T201 - for people, on standard output


def _print_wait(gateway: Gateway) -> None:
    """Say at the terminal why Ctrl-C does not end the process: a log line is easily missed."""
    calls = "1 purchase" if gateway.flights == 1 else f"{gateway.flights} purchases"
    seconds = ceil(gateway.settings.server.drain_seconds)
    print(  # noqa: T201 - for people at a terminal
        f"\nWaiting for {calls} in flight, at most {seconds} s. Ctrl-C again exits at once: these "
        "purchases are charged and their images are lost.",
        file=sys.stderr,
        flush=True,
    )


def _stop_on_signals() -> asyncio.Future[int]:
    """The first SIGTERM or SIGINT, once it has come; a second one exits at once."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[int] = loop.create_future()
    first: float | None = None

    def stop(number: int) -> None:
        nonlocal first
        if first is None:
            first = loop.time()
            _set(stopping, number)
        elif loop.time() - first >= ECHO_SECONDS:
            log.warning("exited at once: a sweep will charge open purchases as unknown")
            finish_logs()
            os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping


def _set(stopping: asyncio.Future[int], number: int) -> None:
    if not stopping.done():
        stopping.set_result(number)


def _reload_on_hangup(stopping: asyncio.Future[int]) -> asyncio.Event:
    """An event that SIGHUP sets. If SIGHUP means a closed terminal, it ends `stopping` instead."""
    wanted, terminal = asyncio.Event(), os.isatty(0)

    def hang_up() -> None:
        if terminal and not os.isatty(0):
            _set(stopping, signal.SIGHUP)
        else:
            wanted.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
    return wanted


def exempt_code_from_collection() -> None:
    """Exempt the objects of a started gateway from garbage collection.

    They live until the end. Collecting them took a tenth of a purchase's CPU, and each run stopped
    all requests for 0.1 s.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        from gateway.server.uvloop import Loop
    except ImportError:  # uvloop is not available on all platforms; it is only faster
        return None
    return Loop
