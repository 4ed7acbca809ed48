"""The cache key: equal for equal requests, different for all others.

Two requests are equal if the upstream would receive equal fields, in any order, with the defaults
filled in. Nothing else is normalised: text stays as it is, 1 and 1.0 differ, and so do null and
absent, because the upstream may treat them differently.
"""

import hashlib
import json
from collections.abc import Collection

from gateway.config.settings import Settings
from gateway.core.model import ImageRequest, Team

_CANON = json.JSONEncoder(
    sort_keys=True, check_circular=False, allow_nan=False, separators=(",", ":")
)


def fingerprint(
    request: ImageRequest, *, scope: str, upstream: str, ignore: Collection[str]
) -> str:
    """Return the SHA-256, in hex, of the scope, the upstream and the request.

    `scope` names the team that shares answers ("" is all teams), `upstream` is its base URL and
    path, and `ignore` lists top-level fields that only identify the end user.
    """
    fields = {name: value for name, value in request.body.items() if name not in ignore}
    # One JSON list, so that no part can run over into the next.
    canonical = _CANON.encode([scope, upstream, fields])
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


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
