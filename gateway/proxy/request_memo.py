"""Requests as they were read, remembered by the very bytes of their bodies.

Who asks for the same again usually sends the same bytes, and reading and fingerprinting them takes
longer than finding the answer. A reading depends on nothing but the body, the configuration and
who shares answers, so it is remembered under all three. What a team may ask for is not part of it.
"""

from functools import lru_cache

from msgspec import Struct

from gateway.config.models import closed_labels
from gateway.config.settings import Settings
from gateway.core.model import ImageRequest, Team
from gateway.proxy.fingerprint import answer_name, scope_of
from gateway.proxy.image_request import read_request

REMEMBERED = 4_096
"""Readings remembered at most, those asked for last."""

MOST_BYTES = 2_048
"""The longest body that is remembered."""


class Reading(Struct, frozen=True):
    """A request, the cache key of its answer, and its model, size and quality as labels."""

    request: ImageRequest
    fingerprint: str
    labels: tuple[str, str, str]


class Readings:
    """Reads bodies under one configuration."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._remembered = lru_cache(REMEMBERED)(self._read)

    def read(self, body: bytes, team: Team) -> Reading:
        """The request in a team's body. Raises InvalidRequest, each time anew."""
        read = self._remembered if len(body) <= MOST_BYTES else self._read
        return read(body, scope_of(team, self.settings))

    def _read(self, body: bytes, scope: str) -> Reading:
        settings = self.settings
        request = read_request(body, settings.models, settings.default_model)
        model = settings.models[request.model]
        return Reading(
            request,
            answer_name(request, scope, settings),
            (request.model, *closed_labels(request, model)),
        )
