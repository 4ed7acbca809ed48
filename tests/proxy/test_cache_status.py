"""How a request uses the cache, and the Cache-Status header of an answer that was bought."""

import pytest

from gateway.proxy.cache_control import cache_use, read_cache_control
from gateway.proxy.cache_status import purchase_status


@pytest.mark.parametrize(
    ("enabled", "header", "read", "store", "bought", "stored"),
    [
        (False, "", False, False, "fwd=bypass", "fwd=bypass"),
        (True, "", True, True, "fwd=miss", "fwd=miss; stored"),
        (True, "max-age=5", True, True, "fwd=miss", "fwd=miss; stored"),
        (True, "no-cache", False, True, "fwd=request", "fwd=request; stored"),
        (True, "no-store", False, False, "fwd=request", "fwd=request; stored"),
    ],
)
def test_directives_say_how_the_cache_is_used(
    enabled: bool, header: str, read: bool, store: bool, bought: str, stored: str
) -> None:
    use = cache_use(read_cache_control([header]), enabled=enabled)
    assert (use.enabled, use.read, use.store) == (enabled, read, store)
    assert purchase_status(use, stored=False) == f"gateway; {bought}"
    assert purchase_status(use, stored=True) == f"gateway; {stored}"
