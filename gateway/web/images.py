"""Pictures by their signed links: the whole file, a range of it, or word that it has not changed.

The signature is the right to read: no key is needed, so that a browser can show the picture. The
file of a name never changes, so caches may keep it for as long as the link works.

A large file is read slice by slice as its reader takes it, so slow readers hold no copies of it.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from aiohttp.hdrs import METH_HEAD
from msgspec import Struct

from gateway.core.errors import (
    GatewayError,
    InvalidRequest,
    NotFound,
    NotPermitted,
    Overloaded,
    Unavailable,
)
from gateway.images.links import Links
from gateway.images.picture import MIME, digest_of, is_name
from gateway.images.place import Away
from gateway.images.store import ImageStore
from gateway.web.body import SLICE_BYTES, Slices
from gateway.web.responses import SERVER

T = TypeVar("T")

MOST_BYTES = 64 * 1024 * 1024
"""Most bytes of pictures in memory for their readers, of which each has a slice."""

_RANGE = re.compile(r"bytes=([0-9]{0,12})-([0-9]{0,12})", re.ASCII)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


class WrongLink(NotPermitted):
    """The link was changed, was made by another gateway, or has ended."""

    code = "invalid_link"
    text = "This link is wrong or has ended. Ask for the picture again to get a new one."


class PictureGone(NotFound):
    """The gateway no longer has the picture."""

    code = "picture_gone"
    text = "The gateway no longer has this picture."


class WrongRange(InvalidRequest):
    """The range begins after the end of the picture of this size in bytes."""

    status = 416
    code = "invalid_range"
    text = "The picture has no such range."

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Range": f"bytes */{self.size}"}


class PicturesAway(Unavailable):
    """The bucket with the pictures does not answer."""

    code = outcome = "pictures_unavailable"
    text = "The gateway cannot reach its pictures. The link stays good. Try again shortly."


FILE_ERRORS: tuple[type[GatewayError], ...] = (WrongLink, PictureGone, WrongRange, PicturesAway)


class Part(Struct, frozen=True):
    """The bytes of a file from `start` up to, but not including, `end`."""

    start: int
    end: int


@dataclass
class ImageFiles:
    """Answers requests for pictures in `store`. `wall` returns the time."""

    store: ImageStore
    links: Links
    wall: Callable[[], float]
    most_bytes: int = MOST_BYTES
    _bytes: int = 0

    @asynccontextmanager
    async def answer(
        self, request: web.BaseRequest, name: str
    ) -> AsyncIterator[tuple[web.Response, Slices | None]]:
        """Answer a request for this picture: the response, and its body if that is large.

        Raises one of FILE_ERRORS, or Overloaded.
        """
        query, now = request.rel_url.query, self.wall()
        end = self.links.end(name, query.get("exp", ""), query.get("sig", ""))
        if end is None or end <= now or not is_name(name):
            raise WrongLink
        size = await self._found(self.store.size(name))
        tag = f'"{digest_of(name)}"'
        headers = {
            **SERVER,
            "Content-Type": MIME[name.rpartition(".")[2]],
            "ETag": tag,
            "Cache-Control": f"private, immutable, max-age={int(end - now)}",
            "Accept-Ranges": "bytes",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
        }
        asked = request.headers
        if has_tag(asked.get("If-None-Match"), tag):
            yield web.Response(status=304, headers=headers), None
            return
        part, status = None, 200
        if asked.get("If-Range", tag) == tag:
            part = range_of(asked.get("Range"), size)
        if part is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
            status = 206
        part = part or Part(0, size)
        length = part.end - part.start
        if request.method == METH_HEAD:
            headers["Content-Length"] = str(length)
            yield web.Response(status=status, headers=headers), None
            return
        with self._hold(min(length, SLICE_BYTES)):
            is_small = length <= SLICE_BYTES
            wanted = length if is_small else 0
            body = await self._found(self.store.read(name, part.start, wanted))
            if is_small:
                yield web.Response(status=status, body=body, headers=headers), None
                return

            async def read(start: int) -> bytes | None:
                wanted = min(SLICE_BYTES, length - start)
                with suppress(Away):
                    piece = await self.store.read(name, part.start + start, wanted)
                    if piece is not None and len(piece) == wanted:
                        return piece
                return None

            yield web.Response(status=status, headers=headers), Slices(length, read)

    async def _found(self, looking: Awaitable[T | None]) -> T:
        """Return what the store has of a picture. Raises PictureGone or PicturesAway."""
        try:
            found = await looking
        except Away:
            raise PicturesAway from None
        if found is None:
            raise PictureGone
        return found

    @contextmanager
    def _hold(self, size: int) -> Iterator[None]:
        if self._bytes + size > self.most_bytes:
            raise Overloaded(
                "The gateway already sends its maximum of pictures by links. Try again shortly."
            )
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size


def has_tag(header: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names this tag (RFC 9110, section 13.1.2)."""
    return header is not None and (header.strip() == "*" or tag in _TAG.findall(header))


def range_of(header: str | None, size: int) -> Part | None:
    """Return the range of a file that a Range header asks for, None for the whole file.

    Several ranges and other units are ignored, as RFC 9110 allows. Raises WrongRange.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:  # no range at all
            return None
    if start >= size:
        raise WrongRange(size)
    return Part(start, end)


def own_url(request: web.BaseRequest, public_url: str) -> str:
    """Return the URL under which clients reach the gateway, "" if nobody knows.

    That is `public_url`, or without one the host of the request: see `gateway.web.framing`.
    """
    host = request.headers.get("Host")
    # As the base URL of clients, it may end in the version.
    public = public_url.rstrip("/").removesuffix("/v1").removesuffix("/api")
    return public or (f"{request.scheme}://{host}" if host else "")
