"""Running a gateway as a process: event loop, signals, and the sandbox and demo around it."""

import asyncio
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from math import ceil
from pathlib import Path

import structlog
from msgspec.structs import replace

from gateway.config.files import DEFAULT_CONFIG, load_settings
from gateway.config.settings import Settings
from gateway.core.faults import Fault
from gateway.core.secret import Secret
from gateway.core.tasks import Background
from gateway.server.demo import banner, demo_key, demo_team, demo_token
from gateway.server.gateway import Gateway
from gateway.server.reload import reload
from gateway.telemetry.logging import finish_logs, logs_of_a_server
from gateway.upstream.sandbox import Sandbox, SandboxSettings

log = structlog.get_logger(source="gateway")

SANDBOX_KEY = "sandbox"

ECHO_SECONDS = 1.0
"""A second signal within this time is the first one's echo: `timeout` and some supervisors signal
the process and then its group."""


GARBAGE = 5_000
"""New objects between two looks for garbage. Python's own 700 come with every few calls under way,
and are none: neither hits nor purchases leave any behind."""


def run(
    settings: Settings,
    config: Path | None,
    *,
    sandbox: bool,
    demo: bool,
    wall: Callable[[], float] = time.time,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises StartError.

    `config` is the file that the settings were read from (None: the default one). SIGHUP has it
    read again, with the environment as it was.

    `sandbox` puts the stand-in upstream in the real one's place. `demo` makes a demo team and key
    and prints how to use them; it implies the sandbox where no upstream key is configured. `wall`
    is this machine's clock.
    """
    _allow_many_files()
    if config is None and DEFAULT_CONFIG.exists():
        config = DEFAULT_CONFIG  # from now on a missing one is a fault, not a wish for defaults
    upstream = settings.upstream
    sandbox = sandbox or (demo and upstream.api_key is None and upstream.api_key_file is None)
    with (
        logs_of_a_server(settings.log.level, settings.log.format),
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(_serve(settings, config, sandbox, demo, wall))


async def _serve(
    settings: Settings,
    config: Path | None,
    sandbox: bool,
    demo: bool,
    wall: Callable[[], float],
) -> None:
    stopping = _stop_on_signals()
    rereading = _event_on_hangup(stopping)
    async with AsyncExitStack() as running:
        stand_in = await _open_sandbox(running) if sandbox else None
        settings, token = _prepared(settings, stand_in, demo)
        gateway = Gateway(settings, wall)
        await gateway.start()
        running.push_async_callback(gateway.stop)
        _leave_the_code_uncollected()

        def read() -> tuple[Settings, list[Fault]]:
            found, warnings = load_settings(config, os.environ, needs_upstream=not sandbox)
            return _prepared(found, stand_in, demo)[0], warnings

        background = Background("serving")
        background.spawn(_reload_on(rereading, lambda: reload(gateway, read)))
        running.push_async_callback(background.close)
        if demo:
            await _print_banner(gateway, settings, token, real=not sandbox)
        await stopping.wait()
        if gateway.flights and sys.stderr.isatty():
            _print_patience(gateway)


async def _reload_on(wanted: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work each time that it is wanted; wishes that come meanwhile are one."""
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            await work()
        except Exception as defect:  # the next signal is to find somebody who listens
            log.exception("configuration kept", exc_info=defect)


async def _open_sandbox(running: AsyncExitStack) -> Sandbox:
    stand_in = Sandbox(SandboxSettings(api_key=SANDBOX_KEY, answer="url"))
    await stand_in.start("127.0.0.1", 0)
    running.push_async_callback(stand_in.stop)
    return stand_in


def _before_sandbox(settings: Settings, stand_in: Sandbox | None) -> Settings:
    """The settings with the sandbox, if there is one, as upstream and a store of its own: play
    money stays apart, and play pictures take no real ones' place on the disk.
    """
    if stand_in is None:
        return settings
    upstream = replace(
        settings.upstream, base_url=stand_in.url, api_key=Secret(SANDBOX_KEY), api_key_file=None
    )
    path = _folder(settings) / "sandbox.db"
    return replace(
        settings,
        upstream=upstream,
        store=replace(settings.store, url=f"sqlite:{path}"),
        cache=replace(settings.cache, keep_path="", url=""),
    )


def _folder(settings: Settings) -> Path:
    """Where this machine keeps what is its own: beside the database, if that is a file."""
    place = settings.store.place
    return Path(place.path).parent if place.kind == "sqlite" else Path("data")


def _prepared(
    settings: Settings, stand_in: Sandbox | None, demo: bool
) -> tuple[Settings, str | None]:
    """The settings to serve with, and the demo's admin token. Raises StartError."""
    settings = _before_sandbox(settings, stand_in)
    if not demo:
        return settings, None
    admin, token = demo_token(settings.admin, _folder(settings) / "demo-admin.token")
    return replace(settings, admin=admin), token


async def _print_banner(
    gateway: Gateway, settings: Settings, token: str | None, *, real: bool
) -> None:
    file = _folder(settings) / "demo.key"
    team = await demo_team(gateway.store.directory, real=real)
    key = await demo_key(gateway.store.directory, gateway.pepper, file)
    await gateway.directory.refresh()
    text = banner(gateway.url, gateway.admin_url, key, team, token, real=real)
    print(text, flush=True)  # noqa: T201


def _print_patience(gateway: Gateway) -> None:
    """Tell whoever pressed Ctrl-C what it waits for: a log's line is easily overlooked."""
    calls = "1 open call" if gateway.flights == 1 else f"{gateway.flights} open calls"
    seconds = ceil(gateway.settings.server.drain_seconds)
    print(  # noqa: T201
        f"\nWaiting for {calls}, at most {seconds} s. Ctrl-C again leaves at once: what is open "
        "is charged, and its pictures are lost.",
        file=sys.stderr,
        flush=True,
    )


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
            finish_logs()
            os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopping


def _event_on_hangup(stopping: asyncio.Event) -> asyncio.Event:
    """Set by SIGHUP. One that says that the gateway's terminal was closed stops it instead."""
    wanted, terminal = asyncio.Event(), os.isatty(0)

    def hang_up() -> None:
        (stopping if terminal and not os.isatty(0) else wanted).set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
    return wanted


def _leave_the_code_uncollected() -> None:
    """Take what a started gateway is made of out of the garbage collector's sight.

    It stays until the end. Looking through it again and again took a tenth of a purchase's CPU,
    and each time held up everybody for 0.1 s.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)


def _allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: every connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        from gateway.server.uvloop import Loop
    except ImportError:  # uvloop is not installed on every platform, and only quicker
        return None
    return Loop
