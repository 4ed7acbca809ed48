"""Requests from web pages of other origins (CORS), where `[server] allowed_origins` permits them.

A browser shows an answer to a page only if the answer names the page's origin. Before a POST, it
asks with a preflight, which needs no key and costs nothing. Answers allow no credentials: a page
sends its key itself, and no cookie means anything here.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Collection, Iterable, Mapping

ANY = "*"

ALLOW_ORIGIN = "Access-Control-Allow-Origin"

_REQUEST_METHOD = "Access-Control-Request-Method"

_KEEP_SECONDS = 7_200
"""How long a browser may keep the answer to a preflight. Chromium takes no longer time."""

# "*" stands for all names but Authorization, in all browsers since 2022. The others get the names.
_READ = ", ".join(
    [
        *("Authorization", "Content-Type", "Cache-Control", "Idempotency-Key", "Prefer"),
        *("X-Request-Id", "OpenAI-Organization", "OpenAI-Project"),
        *(
            f"x-stainless-{name}"
            for name in (
                *("arch", "async", "helper-method", "lang", "os", "package-version"),
                *("read-timeout", "retry-count", "runtime", "runtime-version", "timeout"),
            )
        ),
        ANY,
    ]
)
_SENT = ", ".join(
    [
        *("X-Request-Id", "Cache-Status", "Age", "Retry-After", "retry-after-ms", "x-should-retry"),
        *("x-gateway-cost-usd", "x-gateway-saved-usd", "Server-Timing", "WWW-Authenticate"),
        *(
            f"x-ratelimit-{name}-{of}"
            for of in ("requests", "images")
            for name in ("limit", "remaining", "reset")
        ),
        *("Allow", "Content-Length", "ETag", "Location", "Preference-Applied", ANY),
    ]
)


def origin_headers(allowed: Collection[str], origin: str | None) -> dict[str, str]:
    """The headers that every answer gets: none where no origin is allowed."""
    if not allowed:
        return {}
    found = {"Vary": "Origin"}
    if ANY in allowed:
        found[ALLOW_ORIGIN] = ANY
    elif origin is not None and origin in allowed:
        found[ALLOW_ORIGIN] = origin
    else:
        return found
    return {**found, "Access-Control-Expose-Headers": _SENT}


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks if it may send a request."""
    return method == "OPTIONS" and "Origin" in headers and _REQUEST_METHOD in headers


def preflight_headers(methods: Iterable[str]) -> dict[str, str]:
    """The further headers of the answer to a preflight for a path with these methods."""
    return {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": _READ,
        "Access-Control-Max-Age": str(_KEEP_SECONDS),
    }
