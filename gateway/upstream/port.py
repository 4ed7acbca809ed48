"""The port to the paid API."""

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from gateway.config.settings import UpstreamSettings


class Reply(Struct, frozen=True):
    """The upstream's whole response, its header names in lower case.

    The body is inflated, unless it does not have the encoding that its header names.
    """

    status: int
    headers: dict[str, str]
    body: bytes


NO_TRACE: Mapping[str, str] = {}

OnPartial = Callable[[bytes], None]
"""Receives the JSON of an event with a partial image, on one line."""


def no_partial(event: bytes) -> None:
    """Drop a partial image."""


class Wanted(Struct, frozen=True):
    """What a request wants of a stream: at most so many `partial_images`, all pictures together.

    The stream has all of it once so many `images` are complete; with 0 only its end tells.
    """

    images: int = 0
    partial_images: int = 0
    on_partial: OnPartial = no_partial


NOTHING_WANTED = Wanted()


class Upstream(Protocol):
    """The paid API. One call is at most one request on the wire: nothing is sent twice."""

    async def generate(
        self,
        body: bytes,
        request_id: str,
        settings: UpstreamSettings,
        trace: Mapping[str, str] = NO_TRACE,
        wanted: Wanted = NOTHING_WANTED,
    ) -> Reply:
        """Send one generation request and read the whole response, of any status.

        `settings` have the URL, the key and the timeouts. `trace` has the headers of the trace. Of
        a stream of events, the partial images are passed on as they come, as far as they are
        `wanted`, and the reply has the plain answer with the completed pictures. If it broke off
        without one, that counts as for any response.

        Raises UpstreamUnreachable if nothing was sent. Raises UpstreamCut, UpstreamTimeout or
        UpstreamUnknown (too large) if the request may have been sent.
        """
