"""Fetches the upstream's pictures from their URLs: each once, over connections of their own.

- Only over https, or from `base_url` itself. Only from public addresses, from `base_url`, or from
  the hosts in `[images] fetch_hosts`. The address is checked in the moment in which the connection
  to it is made, so a name cannot resolve to another one in between.
- The request carries nothing but the URL: no cookies, no key, no proxy, no credentials. Redirects
  are not followed.
- Bounded in bytes and in time. A picture is what begins like one, whatever its header says.
- A URL is often signed, and then it is a secret: logs and errors name only the host.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection, Sequence

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway import __version__
from gateway.core.byte_budget import ByteBudget, OverBudget, Part
from gateway.core.connect_errors import why_unreachable
from gateway.core.deadline import Deadline
from gateway.core.http_client import NOTHING_SENT, Allowance, joined, plain_session
from gateway.core.tasks import Service
from gateway.images.picture import kind_of
from gateway.images.reach import Origin, is_public, may_be_anywhere, origin_of, read_url
from gateway.telemetry.observer import NO_OBSERVER, ImageFetch, Observer

log = structlog.get_logger(source="images")

CONNECT_SECONDS = 5.0
SECONDS = 60.0
"""How long a fetch may take, with its waits for its turn and for the budget."""

SIDE_BY_SIDE = 8
IN_ALL = 64
"""How many fetches of one answer, and of all, run at the same time. Further ones wait, first come,
first served."""

BUDGET_BYTES = 128 * 1024 * 1024
STEP_BYTES = 1_048_576
"""Memory for pictures on their way, and the steps in which a fetch takes of it. What arrives slowly
holds little. A fetch that finds no free memory reads on later."""

GONE = b""
"""Stands for a picture whose URL is dead."""

_HEADERS = {
    "Accept": "image/png, image/jpeg, image/webp",
    "Accept-Encoding": "identity",
    "User-Agent": f"image-gateway/{__version__}",
}


class FetchFailed(Exception):
    """A picture could not be fetched. `detail` is for the log, and has no part of the URL."""

    def __init__(self, reason: ImageFetch, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail

    @property
    def is_gone(self) -> bool:
        """Whether the server said that there is no such picture."""
        return self.reason == "status" and self.detail in ("404", "410")


class _NotPublic(OSError):
    """The connection to an address that is not public was not made."""


class Fetcher(Service):
    """Fetches pictures. `budget` bounds those that are on their way.

    `resolver` looks names up, and `tls` checks certificates; without them, the system's do.
    `public` is whether an address belongs to the public internet.
    """

    def __init__(
        self,
        budget: ByteBudget,
        observer: Observer = NO_OBSERVER,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        public: Callable[[str], bool] = is_public,
        seconds: float = SECONDS,
    ) -> None:
        self.budget = budget
        self._observer = observer
        self._resolver = resolver
        self._tls = tls
        self._is_public = public
        self._seconds = seconds
        self._turns = asyncio.Semaphore(IN_ALL)

    async def start(self) -> None:
        """Make the sessions of all calls."""
        self._public = plain_session(self._connector(self._public_socket))
        self._anywhere = plain_session(self._connector(None))

    def _connector(self, make: aiohttp.SocketFactoryType | None) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(
            limit=0,
            force_close=True,
            resolver=self._resolver,
            use_dns_cache=False,
            socket_factory=make,
            ssl=self._tls or True,
        )

    def _public_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket for a connection to this address. Raises _NotPublic."""
        family, kind, protocol, _, (host, *_) = address
        if not self._is_public(str(host)):
            raise _NotPublic("the address is not public")
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(self._public.close(), self._anywhere.close())

    async def fetch_all(
        self,
        urls: Sequence[str],
        base_url: str,
        fetch_hosts: Collection[str],
        max_bytes: int,
        id: str = "",
    ) -> list[bytes | None]:
        """Fetch the pictures of one answer, each URL once. One that failed is None, and GONE if
        its server says that there is none.

        Together they have at most `max_bytes`, also where one URL stands for several pictures.
        `id` is the id of the request, for the log.
        """
        allowance, turns = Allowance(max_bytes), asyncio.Semaphore(SIDE_BY_SIDE)

        async def fetched(url: str) -> bytes | None:
            try:
                return await self.fetch(url, base_url, fetch_hosts, allowance, turns, id)
            except FetchFailed as failure:
                return GONE if failure.is_gone else None

        distinct = list(dict.fromkeys(urls))
        found = dict(zip(distinct, await asyncio.gather(*map(fetched, distinct)), strict=True))
        pictures, left = list[bytes | None](), max_bytes
        for picture in map(found.get, urls):
            if picture is not None and len(picture) > left:
                picture = None
            left -= len(picture or b"")
            pictures.append(picture)
        return pictures

    async def fetch(
        self,
        url: str,
        base_url: str,
        fetch_hosts: Collection[str],
        allowance: Allowance,
        turns: asyncio.Semaphore,
        id: str = "",
    ) -> bytes:
        """Fetch one picture when it is its turn, among those of its answer and among all.

        Raises FetchFailed, after it was logged and counted.
        """
        read = read_url(url)
        origin = None if read is None else origin_of(read)
        try:
            if read is None or origin is None:
                raise FetchFailed("url")
            session = self._session(origin, base_url, fetch_hosts)
            picture = await self._fetch(read, session, allowance, turns)
        except FetchFailed as failure:
            host = origin.host if origin else ""
            about = {"host": host, "reason": failure.reason, "detail": failure.detail}
            log.warning("picture not fetched", id=id, **about)
            self._observer.image_fetch_ended(failure.reason)
            raise
        self._observer.image_fetch_ended("fetched")
        return picture

    def _session(
        self, origin: Origin, base_url: str, fetch_hosts: Collection[str]
    ) -> aiohttp.ClientSession:
        if may_be_anywhere(origin, base_url, fetch_hosts):
            return self._anywhere
        if origin.scheme != "https":
            raise FetchFailed("url", "it is not https")
        return self._public

    async def _fetch(
        self,
        url: URL,
        session: aiohttp.ClientSession,
        allowance: Allowance,
        turns: asyncio.Semaphore,
    ) -> bytes:
        try:
            async with Deadline(self._seconds) as deadline, turns, self._turns:
                chunks = await self._receive(url, session, allowance)
        except NOTHING_SENT as error:
            failure = _unconnected(error)
        except OverBudget:
            failure = FetchFailed("size")
        except ValueError:  # such as 2130706433, which stands for 127.0.0.1, or an endless label
            failure = FetchFailed("url")
        except (aiohttp.ClientError, OSError):  # a TimeoutError is an OSError
            failure = FetchFailed("timeout" if deadline.expired() else "cut")
        except FetchFailed as known:
            failure = known
        except Exception as defect:  # noqa: BLE001 - it must not end the other fetches
            failure = FetchFailed("url", type(defect).__name__)
        else:
            picture = await joined(chunks)
            if kind_of(picture) is not None:
                return picture
            failure = FetchFailed("type")
        # Raised out here, so that it does not carry aiohttp's error, which contains the URL.
        raise failure

    async def _receive(
        self, url: URL, session: aiohttp.ClientSession, allowance: Allowance
    ) -> list[bytes]:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
        response = await session.get(url, headers=_HEADERS, allow_redirects=False, timeout=timeout)
        try:
            if response.status != 200:
                raise FetchFailed("status", str(response.status))
            most, length = min(allowance.left, self.budget.size), response.content_length
            if length is not None and length > most:
                raise OverBudget
            async with self.budget.grow() as part:
                await part.reach(min(STEP_BYTES, most if length is None else length))
                return await _read(response.content, allowance, part)
        finally:
            response.close()


async def _read(content: aiohttp.StreamReader, allowance: Allowance, part: Part) -> list[bytes]:
    """Read a body as far as there is memory for it. Raises OverBudget."""
    chunks, total = list[bytes](), 0
    async for chunk in content.iter_any():
        total += len(chunk)
        allowance.left -= len(chunk)
        if allowance.left < 0:
            raise OverBudget
        if total > part.size:
            await part.reach(max(total, min(part.size + STEP_BYTES, part.most)))
        chunks.append(chunk)
    return chunks


def _unconnected(error: aiohttp.ClientError) -> FetchFailed:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, _NotPublic):
        return FetchFailed("address")
    cause, detail = why_unreachable(error)
    return FetchFailed("unreachable", f"{cause}: {detail}")
