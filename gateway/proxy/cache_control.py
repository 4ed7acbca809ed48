"""A request's Cache-Control header (RFC 9111, section 5.2.1), and the answer's Cache-Status.

The header is read leniently, as the standard demands: unknown directives and junk are ignored. A
`max-age` that cannot be understood counts as 0: in doubt, the client gets no old answer.
"""

import re
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

MAX_SECONDS = 2**31
"""A larger `max-age` counts as this one (RFC 9111, section 1.2.2)."""

MAX_CHARS = 4_096
"""Reading 2 MB of directives would hold up everybody for most of a second."""

# A comma inside quotes separates nothing. Both parts begin differently, so this is linear.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_SECONDS = re.compile(r'([0-9]+)|"([0-9]+)"')


class CacheControl(Struct, frozen=True, kw_only=True):
    """The directives that the gateway honours. `max_age` is in seconds, None if not given."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: int | None = None

    @property
    def fresh(self) -> bool:
        """Whether the client asks for a new image."""
        return self.no_cache or self.no_store


_NOTHING = CacheControl()


class CacheUse(Struct, frozen=True, kw_only=True):
    """How one request uses the cache.

    `enabled`: the cache is on for the gateway and the team. `read`: look for the answer in the
    cache and among the flights first. `store`: keep the answer. `only`: never buy one. An answer of
    `max_age` seconds or more is too old.
    """

    enabled: bool
    read: bool
    store: bool
    only: bool
    max_age: int | None

    def accepts(self, age: float) -> bool:
        """Whether an answer of this age in seconds is new enough."""
        # Not by the whole seconds of the Age header: a max-age of 0 must never find anything.
        return self.max_age is None or age < self.max_age


def cache_use(wish: CacheControl, *, enabled: bool) -> CacheUse:
    """How a request with these directives uses a cache that is on or off."""
    return CacheUse(
        enabled=enabled,
        read=enabled and not wish.fresh,
        store=enabled and not wish.no_store,
        only=wish.only_if_cached,
        max_age=wish.max_age,
    )


def read_cache_control(values: Iterable[str]) -> CacheControl:
    """Read the directives of all Cache-Control header lines together.

    An argument of a directive that takes none is ignored. Of several `max-age` the smallest counts.
    Lines of more than `MAX_CHARS` together are not read: they count as `no-cache`.
    """
    values = list(values)
    if not values:
        return _NOTHING
    if sum(map(len, values)) > MAX_CHARS:
        return CacheControl(no_cache=True)
    directives = [
        (name.strip().lower(), argument.strip())
        for value in values
        for element in _ELEMENT.findall(value)
        for name, _, argument in [element.partition("=")]
    ]
    names = {name for name, _ in directives}
    ages = [_seconds(argument) for name, argument in directives if name == "max-age"]
    return CacheControl(
        no_cache="no-cache" in names,
        no_store="no-store" in names,
        only_if_cached="only-if-cached" in names,
        max_age=min(ages, default=None),
    )


def _seconds(argument: str) -> int:
    match = _SECONDS.fullmatch(argument)
    if match is None:
        return 0
    digits = (match[1] or match[2]).lstrip("0")
    # Its length first: a number of thousands of digits is refused by int().
    return MAX_SECONDS if len(digits) > 10 else min(MAX_SECONDS, int(digits or "0"))


# -- the answer -----------------------------------------------------------------------------------


class CacheStatus(StrEnum):
    """The values of the Cache-Status header (RFC 9211).

    REQUEST is for a client that refused a cached answer (`no-cache`, `no-store`), BYPASS for a
    cache that is switched off.
    """

    HIT = "gateway; hit"
    MISS = "gateway; fwd=miss"
    MISS_STORED = "gateway; fwd=miss; stored"
    MISS_COLLAPSED = "gateway; fwd=miss; collapsed"
    REQUEST = "gateway; fwd=request"
    REQUEST_STORED = "gateway; fwd=request; stored"
    REQUEST_COLLAPSED = "gateway; fwd=request; collapsed"
    BYPASS = "gateway; fwd=bypass"
    BYPASS_COLLAPSED = "gateway; fwd=bypass; collapsed"


def status_of(use: CacheUse, *, stored: bool = False, collapsed: bool = False) -> CacheStatus:
    """The status of an answer that was bought, and `stored` in the cache or not.

    With `collapsed`, another purchase brought it.
    """
    reason = "bypass" if not use.enabled else "miss" if use.read else "request"
    suffix = "; collapsed" if collapsed else "; stored" if stored and use.enabled else ""
    return CacheStatus(f"gateway; fwd={reason}{suffix}")
