"""Errors that name the right way: for paths of other APIs, mistyped paths, and keys elsewhere.

Their texts are fixed and repeat nothing that a client wrote: paths in them are the gateway's own.
"""

import re
from collections.abc import Iterable, Mapping

from gateway.core.errors import NotFound, Unauthenticated

GENERATIONS = "/images/generations"

_KEY_HEADERS = ("api-key", "x-api-key")
"""Where Azure's clients, and others, put their key."""

_SLASHES = re.compile("//+")


def no_such_route(path: str, prefix: str, routes: Iterable[str]) -> NotFound:
    """Return the error of an unknown path.

    `routes` are the paths below `prefix`, without parameters. A path that ends like one of them has
    a wrong beginning, or a slash too many: no prefix, one twice, or Azure's
    `/openai/deployments/NAME`.
    """
    plain = _SLASHES.sub("/", path).rstrip("/").lower()
    for route in routes:
        if plain.endswith(route):
            return NotFound(
                f"There is no such route. The right address is {prefix}{route}: give clients a base"
                f" URL that ends in {prefix}, once and without a slash after it."
            )
    return NotFound(
        "There is no such route. This gateway serves image generations only: POST "
        f"{prefix}{GENERATIONS}."
    )


def where_the_key_belongs(headers: Mapping[str, str]) -> Unauthenticated | None:
    """Return the error of a request without Authorization whose key is in another header."""
    if "Authorization" in headers or not any(name in headers for name in _KEY_HEADERS):
        return None
    return Unauthenticated(
        "A gateway key belongs in the header 'Authorization: Bearer sk-gw-...', not in api-key or "
        "x-api-key."
    )
