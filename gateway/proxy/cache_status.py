"""The Cache-Status header (RFC 9211)."""

from enum import StrEnum

from gateway.proxy.cache_control import CacheUse


class CacheStatus(StrEnum):
    """The values of the header.

    REQUEST is for a client that refused a cached answer (`no-cache`, `no-store`), BYPASS for a
    cache that is switched off.
    """

    HIT = "gateway; hit"
    MISS = "gateway; fwd=miss"
    MISS_STORED = "gateway; fwd=miss; stored"
    MISS_COLLAPSED = "gateway; fwd=miss; collapsed"
    REQUEST = "gateway; fwd=request"
    REQUEST_STORED = "gateway; fwd=request; stored"
    BYPASS = "gateway; fwd=bypass"


def purchase_status(use: CacheUse, *, stored: bool) -> CacheStatus:
    """The status of an answer that was bought, and `stored` in the cache or not."""
    if not use.enabled:
        return CacheStatus.BYPASS
    if use.read:
        return CacheStatus.MISS_STORED if stored else CacheStatus.MISS
    return CacheStatus.REQUEST_STORED if stored else CacheStatus.REQUEST
