"""The cache key: equal for equal requests, different for all others.

Two requests are equal if the upstream would receive equal fields, in any order, with the defaults
filled in. A field counts as absent where it has the upstream's own default. Nothing else is
normalised: text stays as it is, 1 and 1.0 differ, and so do null and absent, because the upstream
may treat them differently.

Clients that repeat a request usually send the same bytes, and reading and fingerprinting them takes
longer than finding the answer. So requests are remembered by their exact bytes, the settings and
the scope within which answers are shared. The team's policy is checked each time.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import lru_cache, partial
from typing import Any

from msgspec import Struct

from gateway.config.models import closed_labels
from gateway.config.settings import Settings
from gateway.core.model import ImageRequest, Team
from gateway.proxy.image_request import read_request

MOST_REQUESTS = 4_096
"""How many requests are remembered: those used last."""

MOST_BYTES = 2_048
"""The longest body that is remembered."""

DIGEST_DIGITS = 32
"""128 bits: enough to tell the requests of a key line apart."""

_CANON = json.JSONEncoder(
    sort_keys=True, check_circular=False, allow_nan=False, separators=(",", ":")
)


def fingerprint(
    request: ImageRequest, *, scope: str, upstream: str, ignore: Collection[str]
) -> str:
    """Return the SHA-256, in hex, of the scope, the upstream and the request.

    `scope` names the team that shares answers ("" is all teams), and `upstream` is its base URL
    and path. `ignore` lists top-level fields that only identify the end user.
    """
    fields = {name: value for name, value in _telling(request).items() if name not in ignore}
    # One JSON list, so that no part can run over into the next.
    canonical = _CANON.encode([scope, upstream, fields])
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def body_digest(request: ImageRequest) -> str:
    """Return a digest of the whole request, in hex: fields that name the end user included."""
    canonical = _CANON.encode(_telling(request))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:DIGEST_DIGITS]


def _telling(request: ImageRequest) -> Mapping[str, Any]:
    """Return the fields that tell a request from others."""
    if not request.neutral:
        return request.body
    return {name: value for name, value in request.body.items() if name not in request.neutral}


def answer_name(request: ImageRequest, scope: str, settings: Settings) -> str:
    """Return the cache key of a request's answer within this scope, under these settings."""
    return fingerprint(
        request,
        scope=scope,
        upstream=settings.upstream.url,
        ignore=settings.cache.ignore_fields,
    )


def scope_of(team: Team, settings: Settings) -> str:
    """Return the scope within which a team's answers are shared: "" is all teams.

    Otherwise it is the team's name, with the number of times that its cache was purged: answers
    from before a purge are not found again. No team name contains "#".
    """
    if settings.cache.scope != "team":
        return ""
    return f"{team.name}#{team.purged}" if team.purged else team.name


# -- the memo -------------------------------------------------------------------------------------


class FingerprintedRequest(Struct, frozen=True):
    """A request, the cache key of its answer, and its model, size and quality as labels."""

    request: ImageRequest
    fingerprint: str
    labels: tuple[str, str, str]


class RequestMemo:
    """Reads request bodies under the settings in force."""

    _settings: Settings | None = None

    def read(self, body: bytes, team: Team, settings: Settings) -> FingerprintedRequest:
        """Read the request in a team's body. Raises InvalidRequest, a new one each time."""
        if settings is not self._settings:
            self._settings = settings
            self._read = partial(_read, settings)
            self._remembered = lru_cache(MOST_REQUESTS)(self._read)
        read = self._remembered if len(body) <= MOST_BYTES else self._read
        return read(body, scope_of(team, settings))


def _read(settings: Settings, body: bytes, scope: str) -> FingerprintedRequest:
    request = read_request(
        body,
        settings.models,
        settings.default_model,
        sends_format=settings.upstream.response_format,
        sends_stream=settings.upstream.stream,
    )
    labels = closed_labels(request, settings.models[request.model])
    fingerprint = answer_name(request, scope, settings)
    return FingerprintedRequest(request, fingerprint, (request.model, *labels))
