"""Remembers requests by the exact bytes of their bodies.

Clients that repeat a request usually send the same bytes, and reading and fingerprinting them takes
longer than finding the answer. The result depends only on the body, the settings and the scope
within which answers are shared, so it is remembered under these three. The team's policy is not
part of it: that is checked each time.
"""

from functools import lru_cache

from msgspec import Struct

from gateway.config.models import closed_labels
from gateway.config.settings import Settings
from gateway.core.model import ImageRequest, Team
from gateway.proxy.fingerprint import answer_name, scope_of
from gateway.proxy.image_request import read_request

MOST_REQUESTS = 4_096
"""How many requests are remembered: those used last."""

MOST_BYTES = 2_048
"""The longest body that is remembered."""


class FingerprintedRequest(Struct, frozen=True):
    """A request, the cache key of its answer, and its model, size and quality as labels."""

    request: ImageRequest
    fingerprint: str
    labels: tuple[str, str, str]


class RequestMemo:
    """Reads request bodies under the settings in force."""

    def __init__(self, settings: Settings) -> None:
        self._use(settings)

    def read(self, body: bytes, team: Team, settings: Settings) -> FingerprintedRequest:
        """Read the request in a team's body. Raises InvalidRequest, a new one each time."""
        if settings is not self._settings:
            self._use(settings)
        read = self._remembered if len(body) <= MOST_BYTES else self._read
        return read(body, scope_of(team, settings))

    def _use(self, settings: Settings) -> None:
        self._settings = settings
        self._remembered = lru_cache(MOST_REQUESTS)(self._read)

    def _read(self, body: bytes, scope: str) -> FingerprintedRequest:
        settings = self._settings
        request = read_request(body, settings.models, settings.default_model)
        labels = closed_labels(request, settings.models[request.model])
        fingerprint = answer_name(request, scope, settings)
        return FingerprintedRequest(request, fingerprint, (request.model, *labels))
