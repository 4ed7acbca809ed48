"""The port to the paid API."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from gateway.config.settings import UpstreamSettings


class Reply(Struct, frozen=True):
    """The upstream's whole answer: body inflated and within its bound, header names lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


NO_TRACE: Mapping[str, str] = {}


class Upstream(Protocol):
    """The paid API. One call is at most one request on the wire: nothing is ever sent twice."""

    async def generate(
        self,
        body: bytes,
        request_id: str,
        settings: UpstreamSettings,
        trace: Mapping[str, str] = NO_TRACE,
    ) -> Reply:
        """Send one generation and read its whole answer, whatever its status.

        `settings` say where it goes, with which key, and how long it may take. `trace` are the
        headers of the trace that it belongs to.

        Raises UpstreamUnreachable where nothing can have been sent; UpstreamCut, UpstreamTimeout
        or UpstreamUnknown (over the size bound, unreadable encoding) where it may have been.
        """
