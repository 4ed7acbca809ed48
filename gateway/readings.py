"""Requests as they were read, remembered by the very bytes of their bodies.

Who asks for the same again usually sends the same bytes, and reading and fingerprinting them takes
longer than finding the answer. A reading depends on nothing but the body, the configuration and
who shares answers, so it is remembered under all three. What a team may ask for is not part of it.
"""

from functools import lru_cache

from msgspec import Struct

from gateway.model import ImageRequest
from gateway.rules.fingerprint import fingerprint
from gateway.rules.request import read_request
from gateway.rules.settings import Settings

REMEMBERED = 4_096
"""Readings remembered at most, those asked for last."""

MOST_BYTES = 2_048
"""The longest body that is remembered."""


class Reading(Struct, frozen=True):
    """A request and the cache key of its answer."""

    request: ImageRequest
    fingerprint: str


class Readings:
    """Reads bodies under one configuration."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._remembered = lru_cache(REMEMBERED)(self._read)

    def read(self, body: bytes, team: str) -> Reading:
        """The request in a team's body. Raises InvalidRequest, each time anew."""
        scope = team if self.settings.cache.scope == "team" else ""
        read = self._remembered if len(body) <= MOST_BYTES else self._read
        return read(body, scope)

    def _read(self, body: bytes, scope: str) -> Reading:
        settings = self.settings
        request = read_request(body, settings.models, settings.default_model)
        name = fingerprint(
            request,
            scope=scope,
            upstream=settings.upstream.url,
            ignore=settings.cache.ignore_fields,
        )
        return Reading(request, name)
