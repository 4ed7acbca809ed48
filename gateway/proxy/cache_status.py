"""The Cache-Status header (RFC 9211)."""

from enum import StrEnum


class CacheStatus(StrEnum):
    """The Cache-Status header (RFC 9211), from a closed set.

    REQUEST is for a client that forbade a kept answer (`no-cache`, `no-store`), BYPASS for a
    cache that is switched off.
    """

    HIT = "gateway; hit"
    MISS = "gateway; fwd=miss"
    MISS_STORED = "gateway; fwd=miss; stored"
    MISS_COLLAPSED = "gateway; fwd=miss; collapsed"
    REQUEST = "gateway; fwd=request"
    REQUEST_STORED = "gateway; fwd=request; stored"
    BYPASS = "gateway; fwd=bypass"
