"""The Cache-Status header of an answer that was bought."""

import pytest

from gateway.proxy.cache_control import cache_use, read_cache_control
from gateway.proxy.cache_status import purchase_status


@pytest.mark.parametrize(
    ("enabled", "header", "stored", "expected"),
    [
        (False, "", False, "gateway; fwd=bypass"),
        (True, "", True, "gateway; fwd=miss; stored"),
        (True, "", False, "gateway; fwd=miss"),
        (True, "no-cache", True, "gateway; fwd=request; stored"),
        (True, "no-store", False, "gateway; fwd=request"),
    ],
)
def test_it_says_why_the_answer_was_bought(
    enabled: bool, header: str, stored: bool, expected: str
) -> None:
    use = cache_use(read_cache_control([header]), enabled=enabled)
    assert purchase_status(use, stored=stored) == expected
