"""The parts that a start needs: pepper, store, upstream key, webhooks, certificate, tracing.

Each function raises StartError with the reason in one line. The server and the command line both
use them, so both refuse the same things in the same words. Heavy modules are imported where they
are needed, so that commands of the command line start quickly.
"""

import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gateway.config.images import LINKED
from gateway.config.settings import KeySettings, Settings, StoreSettings
from gateway.config.store_url import StoreUrl
from gateway.config.values import PEPPER_BYTES
from gateway.core.errors import StoreUnavailable
from gateway.core.key_format import pepper_check
from gateway.core.model import Team
from gateway.server.ids import new_id
from gateway.server.tls import Certificate, certificate_of, check_client_files
from gateway.stores.port import Observe, Store, UnusableStore
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.tracing import NO_TRACING, Tracing
from gateway.upstream.credentials import with_key

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from gateway.cache.stack import CacheStack
    from gateway.images.store import ImageStore
    from gateway.proxy.election import LocalElection, SharedElection
    from gateway.proxy.pictures import Pictures
    from gateway.telemetry.observer import Observer


class StartError(Exception):
    """The reason why the gateway cannot start, in one line for the operator."""


def data_folder(settings: Settings) -> Path:
    """Return the folder of this machine's own files: the folder of the database, if it is one."""
    place = settings.store.place
    return Path(place.path).parent if place.kind == "sqlite" else Path("data")


def sandbox_database(settings: Settings) -> Path:
    """Return the database of a gateway that has the sandbox as its upstream."""
    return data_folder(settings) / "sandbox.db"


# -- the pepper ---------------------------------------------------------------------------------


def load_pepper(keys: KeySettings, place: StoreUrl) -> bytes:
    """The pepper from the environment or from its file, which the first call creates (mode 0600).

    It is not created if the store may already have another pepper: if the database at `place`
    exists, or several gateways share the store. Raises StartError.
    """
    path = Path(keys.pepper_file)
    with _pepper_errors(path):
        if keys.pepper is None and not path.exists():
            _require_no_store(place, path)
            create_secret(path, secrets.token_hex(32))
    return load_kept_pepper(keys)


def load_kept_pepper(keys: KeySettings) -> bytes:
    """The pepper from the environment or from its file, which must exist. Raises StartError."""
    if keys.pepper is not None:
        return keys.pepper.reveal().encode()
    path = Path(keys.pepper_file)
    with _pepper_errors(path):
        pepper = path.read_bytes().strip()
    if len(pepper) < PEPPER_BYTES:
        raise StartError(f"The pepper file {path} holds fewer than {PEPPER_BYTES} bytes.")
    return pepper


@contextmanager
def _pepper_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = f" ({error.filename})" if error.filename != str(path) else ""
        raise StartError(
            f"The pepper file {path} cannot be used: {error.strerror}{named}."
        ) from None


def _require_no_store(place: StoreUrl, pepper: Path) -> None:
    if place.kind != "sqlite":
        raise StartError(
            f"The pepper file {pepper} is missing, and gateways that share a Redis need the same "
            "pepper: copy it to each of them, as that file or as GATEWAY_KEYS_PEPPER."
        )
    if Path(place.path).exists():
        raise StartError(
            f"The pepper file {pepper} is missing, and the database {place.path} needs it. "
            "Restore the file from the backup."
        )


def create_secret(path: Path, text: str) -> None:
    """Write a new file (mode 0600). Processes that do so at the same time end up with one text."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # unlike a rename, this never replaces an existing file
    except FileExistsError:
        return
    finally:
        draft.unlink()


# -- the store ----------------------------------------------------------------------------------


def build_store(settings: StoreSettings, observe: Observe | None = None) -> Store:
    """The configured store, not open yet. Raises StartError if a file that it needs is missing."""
    place = settings.place
    if place.kind == "sqlite":
        return SqliteStore(Path(place.path), observe=observe)
    from gateway.stores.redis import RedisStore

    with _required(f"The store {place.shown}"):
        check_client_files(place.tls_files)
    return RedisStore(place, observe=observe, wait_replicas=settings.wait_replicas)


def build_pictures(
    images: "ImageStore",
    cache: "CacheStack",
    pepper: bytes,
    wall: Callable[[], float],
    observer: "Observer",
) -> "Pictures":
    """The part that fetches, keeps and shows pictures."""
    from gateway.core.byte_budget import ByteBudget
    from gateway.images.fetch import BUDGET_BYTES, Fetcher
    from gateway.images.links import Links
    from gateway.proxy.pictures import Pictures

    fetcher = Fetcher(ByteBudget(BUDGET_BYTES), observer)
    return Pictures(wall, Links(pepper), images, fetcher, cache.remember)


def build_election(
    settings: StoreSettings, cache: "CacheStack", observer: "Observer"
) -> "LocalElection | SharedElection":
    """The election of the gateway that buys. A store on one machine needs none."""
    from gateway.proxy.election import LocalElection, SharedElection

    if settings.place.kind == "sqlite":
        return LocalElection()
    from gateway.stores.redis.leases import RedisLeases

    return SharedElection(
        RedisLeases(settings.place, observe=observer.store_operation),
        observer=observer,
        new_id=new_id,
        cache_is_shared=lambda: cache.is_shared,
    )


async def open_checked(store: Store, place: StoreUrl, pepper: bytes) -> None:
    """Open the store at `place`, and close it again if its pepper is another one.

    Raises StartError.
    """
    try:
        with _store_errors(place):
            await store.open()
            if not await store.check_value("pepper", pepper_check(pepper)):
                raise UnusableStore(
                    f"The pepper does not belong to the store {place.shown}, whose keys were "
                    "created with another one. Restore both from one backup."
                )
    except StartError:
        await store.close()
        raise


async def open_store(settings: Settings, pepper: bytes) -> Store:
    """The configured store, open. Raises StartError."""
    store = build_store(settings.store)
    await open_checked(store, settings.store.place, pepper)
    return store


@asynccontextmanager
async def unopened_store(settings: Settings) -> AsyncIterator[Store]:
    """The configured store, to restore an archive into it. It is closed when the block ends.

    Raises StartError.
    """
    store = build_store(settings.store)
    try:
        with _store_errors(settings.store.place):
            yield store
    finally:
        await store.close()


@contextmanager
def _store_errors(place: StoreUrl) -> Iterator[None]:
    try:
        yield
    except UnusableStore as error:
        raise StartError(str(error)) from None
    except StoreUnavailable as error:
        raise StartError(f"The store {place.shown} cannot be reached: {_why(error)}.") from None


def _why(error: StoreUnavailable) -> str:
    cause = error.__cause__
    if cause is None or isinstance(cause, TimeoutError):
        return "it did not answer in time"
    return str(cause).rstrip(".") or type(cause).__name__


# -- upstream key, webhooks, certificate and tracing --------------------------------------------


def with_upstream_key(settings: Settings) -> Settings:
    """The settings with the upstream key in them. Raises StartError if there is none."""
    if not settings.upstream.base_url:
        raise StartError("No upstream is configured: set GATEWAY_UPSTREAM_BASE_URL.")
    with _required("The upstream key"):
        return replace(settings, upstream=with_key(settings.upstream))


def require_webhooks(settings: Settings) -> None:
    """Raise StartError if a webhook cannot be used: an operator relies on its alerts."""
    from gateway.reporting.alerts.http import secret_of, url_of

    for name, webhook in settings.alerts.webhooks.items():
        with _required(f"The webhook {name}"):
            url_of(webhook)
            secret_of(webhook)


def require_caches(settings: Settings) -> None:
    """Raise StartError if the shared cache or the bucket lacks what it needs on this machine.

    That is a file for TLS or of credentials, or the bucket's packages.
    """
    if place := settings.cache.place:
        with _required(f"The cache {place.shown}"):
            check_client_files(place.tls_files)
    if settings.images.is_bucket:
        from gateway.images.bucket import check_bucket

        with _required(f"The bucket {settings.images.url}"):
            check_bucket(settings.images)


def load_certificate(settings: Settings) -> Certificate | None:
    """The certificate of the public port; None for plain HTTP. Raises StartError."""
    with _required("The certificate"):
        return certificate_of(settings.server)


@contextmanager
def _required(subject: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise StartError(f"{subject} cannot be used: {error}.") from None


def load_tracing(settings: Settings, exporter: "SpanExporter | None") -> Tracing:
    """The receiver of spans. Raises StartError if packages for tracing are missing."""
    if not settings.tracing.enabled:
        return NO_TRACING
    try:
        from gateway.telemetry.otel import OpenTelemetryTracing
    except ModuleNotFoundError as missing:
        raise StartError(
            "[tracing] enabled needs the packages of image-gateway[otel]: "
            f"{missing.name} is not installed."
        ) from None
    kind = settings.store.place.kind
    return OpenTelemetryTracing(store=kind, prompts=settings.tracing.prompts, exporter=exporter)


def doubts(settings: Settings, teams: Collection[Team]) -> Iterator[str]:
    """Yield what a gateway that has started with these teams should be asked about."""
    if settings.store.place.kind != "sqlite":
        if not teams:
            yield "the store has no teams: it is new, or it lost its data"
        if settings.cache.place is None and settings.cache.enabled:
            yield "no [cache] url: each replica caches answers in its own memory only"
    if not settings.has_urls and any(team.deliver in LINKED for team in teams):
        yield "there are teams whose deliver needs links to pictures, but there are no links"


def typed_program() -> str:
    """The program as it can be typed again: `gateway`, or its path if it is not on PATH."""
    path = Path(sys.argv[0])
    if path.name != "gateway" or shutil.which("gateway") == str(path):
        return "gateway"
    return sys.argv[0]
