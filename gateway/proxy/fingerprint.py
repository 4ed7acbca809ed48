"""The cache key: equal for requests that ask for the same, different for all others.

Two requests are the same when the upstream would be sent equal fields, in whatever order, with
the defaults filled in. Nothing else is evened out: text is not normalised, 1 and 1.0 differ, and
so do null and absent, because the upstream may tell them apart.
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
    """SHA-256 in hex over the scope, the upstream and the request.

    `scope` says who shares answers (a team; "" is everybody), `upstream` is its base URL and path,
    and `ignore` names the fields of the request's top level that only tell who the end user is.
    """
    fields = {name: value for name, value in request.body.items() if name not in ignore}
    # One JSON list: no part can run over into the next.
    canonical = _CANON.encode([scope, upstream, fields])
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def answer_name(request: ImageRequest, scope: str, settings: Settings) -> str:
    """What the answer to a request is kept under, by these settings, for those who share it."""
    return fingerprint(
        request,
        scope=scope,
        upstream=settings.upstream.url,
        ignore=settings.cache.ignore_fields,
    )


def scope_of(team: Team, settings: Settings) -> str:
    """Who shares a team's answers: "" is everybody.

    Otherwise the team's name, and how often its cache was emptied; no name holds this mark.
    """
    if settings.cache.scope != "team":
        return ""
    return f"{team.name}#{team.purged}" if team.purged else team.name
