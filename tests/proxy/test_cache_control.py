"""Cache-Control is read as RFC 9111 demands: leniently, and in doubt no old answer is served."""

from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.cache_control import (
    MAX_SECONDS,
    CacheControl,
    cache_use,
    read_cache_control,
    status_of,
)


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        ({}, ["", 'ext="no-cache, no-store"', 'ext="unclosed, no-cache', "private, no cache"]),
        ({}, ["nocache, no-cache-really, max-stale, s-maxage=5, xmax-age=6"]),
        ({"no_cache": True}, ["no-cache", "NO-Cache", 'no-cache="x"', "max-age=5," * 500]),
        ({"no_store": True}, ["  no-store  ", "junk here, no-store"]),
        ({"no_store": True}, ['ext="a \\" , no-cache", no-store']),
        ({"only_if_cached": True}, ["only-if-cached"]),
        ({"no_cache": True, "no_store": True}, ["no-cache, no-store"]),
        ({"max_age": 3600}, ["max-age=3600", "Max-Age = 3600", 'max-age="3600"']),
        ({"max_age": 7}, ["max-age=007", "max-age=" + "0" * 4000 + "7", "max-age=60, max-age=7"]),
        ({"max_age": 0}, ["max-age", 'max-age=""', 'max-age="5', "max-age=-1", "max-age=1.5"]),
        ({"max_age": 0}, ["max-age=soon", "max-age=\u0663"]),
        ({"max_age": MAX_SECONDS}, ["max-age=99999999999", "max-age=" + "9" * 4000]),
    ],
)
def test_directives_are_read_leniently(expected: dict[str, Any], headers: list[str]) -> None:
    for header in headers:
        assert read_cache_control([header]) == CacheControl(**expected)


def test_several_header_lines_are_read_together() -> None:
    assert read_cache_control([]) == CacheControl()
    assert read_cache_control(["no-cache", "max-age=5"]) == CacheControl(no_cache=True, max_age=5)
    assert read_cache_control(["max-age=60", "max-age=x"]) == CacheControl(max_age=0)
    assert read_cache_control(["max-age=5"] * 500) == CacheControl(no_cache=True)


@given(st.lists(st.text() | st.text('",=\\ max-age0no-cache', max_size=40), max_size=3))
def test_any_text_is_read(values: list[str]) -> None:
    age = read_cache_control(values).max_age
    assert age is None or 0 <= age <= MAX_SECONDS


@pytest.mark.parametrize("unit", ['"', "\\", '"\\', '",', "a", ",", "=", " "])
def test_long_values_are_read_quickly(unit: str) -> None:
    started = process_time()
    read_cache_control([unit * 8192])
    # A few milliseconds where nothing else runs; a regular expression gone wrong takes minutes.
    assert process_time() - started < 0.5


def test_an_answer_of_the_maximum_age_is_too_old() -> None:
    use = cache_use(CacheControl(max_age=5), enabled=True)
    assert use.accepts(4.999)
    assert not use.accepts(5)
    assert not cache_use(CacheControl(max_age=0), enabled=True).accepts(0.0)
    assert cache_use(CacheControl(), enabled=True).accepts(10**9)


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
    assert status_of(use, stored=False) == f"gateway; {bought}"
    assert status_of(use, stored=True) == f"gateway; {stored}"
