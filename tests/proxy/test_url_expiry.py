"""When URLs end, and how long an answer with them may be kept."""

import time
from datetime import UTC, datetime
from math import inf
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.proxy.url_expiry import (
    MARGIN_SECONDS,
    MAX_CHARS,
    MAX_FIELDS,
    MAX_URLS,
    keep_seconds,
    url_ends,
    url_expires,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
HOUR = 3_600.0
BASE = "https://images.example.com/a.png"


@pytest.mark.parametrize(
    "query",
    [
        "se=2026-05-01T12:00:00Z",
        "se=2026-05-01T12%3A00%3A00Z",
        "se=2026-05-01T12%3A00Z&sig=a%2Bb&sp=r",
        "SE=2026-05-01T12%3A00%3A00.000Z",
        "se=2026-05-01T14:00:00+02:00",
        "se=2026-05-01T14%3A00%3A00%2B02%3A00",
        "se=2026-05-01T12:00:00",
        "X-Amz-Date=20260501T110000Z&X-Amz-Expires=3600",
        "x-amz-expires=3600&X-AMZ-DATE=20260501T110000Z&X-Amz-Signature=abc",
        "X-Tos-Date=20260501T110000Z&X-Tos-Expires=3600",
        f"Expires={NOW:.0f}",
        f"expires={NOW:.0f}&Signature=x",
        f"exp={NOW:.0f}",
        f"EXP={NOW:.0f}000",
        f"st=2026-04-30&se=2026-05-02&exp={NOW:.0f}&Expires={NOW + 1:.0f}",
        f"exp={NOW:.0f}#exp=1",
    ],
)
def test_the_expiry_of_a_signed_url(query: str) -> None:
    assert url_expires(f"{BASE}?{query}") == NOW


def test_a_date_without_a_time_means_the_beginning_of_the_day() -> None:
    assert url_expires(f"{BASE}?se=2026-05-01") == NOW - DAY / 2


@pytest.mark.parametrize(
    "url",
    [
        "",
        BASE,
        f"{BASE}?se",
        f"{BASE}?se=soon",
        f"{BASE}?se=99999-01-01",
        f"{BASE}?exp=1e9",
        f"{BASE}?exp=٣",
        f"{BASE}?exp=12345678901234",
        f"{BASE}?expires=Fri, 01 May 2026 12:00:00 GMT",
        f"{BASE}?X-Amz-Expires=3600",
        f"{BASE}?X-Amz-Date=20260501T110000Z",
        f"{BASE}?X-Amz-Date=20260501T110000Z&X-Goog-Expires=3600",
        f"{BASE}?X-Amz-Date=2026-05-01&X-Amz-Expires=3600",
        f"{BASE}?X-Amz-Date=20260501T110000Z&X-Amz-Expires=99999999999",
        f"{BASE}#exp=1000000000",
        "https://[broken?x=1",
        "data:image/png;base64,iVBORw0KGgo=",
    ],
)
def test_urls_without_an_expiry(url: str) -> None:
    assert url_expires(url) is None


def test_a_number_that_is_no_date_is_long_past() -> None:
    assert keep_seconds([f"{BASE}?expires=3600"], NOW, DAY, HOUR) < 0


@given(st.text(max_size=80))
@example(quote("0001-01-01T00:00+23:59"))
@example(quote("9999-12-31T23:59-23:59"))
@example("=&X-Amz-Date=99991231T235959Z&X-Amz-Expires=9999999999")
def test_any_text_is_read(text: str) -> None:
    for url in (text, f"{BASE}?{text}", f"{BASE}?se={text}&exp={text}&X-Amz-Expires={text}"):
        moment = url_expires(url)
        assert moment is None or isinstance(moment, float)


# -- keeping ------------------------------------------------------------------------------------


def ending(seconds: float) -> str:
    return f"{BASE}?{urlencode({'exp': int(NOW + seconds)})}"


@pytest.mark.parametrize(
    ("urls", "seconds"),
    [
        ([], DAY),
        ([BASE], HOUR),
        ([ending(100)], 90),
        ([ending(600)], 540),
        ([ending(7_200)], 7_140),
        ([ending(2 * DAY)], DAY),
        ([ending(7_200), BASE], HOUR),
        ([ending(7_200), ending(100)], 90),
        ([ending(0)], 0),
        ([ending(-100)], -90),
        (["data:image/png;base64,iVBORw0KGgo="], DAY),
        ([f" DATA:image/png;exp={NOW:.0f}," + "A" * MAX_CHARS, "data:?exp=1"], DAY),
        (["data:,x", ending(600)], 540),
        (["database/x.png"], HOUR),
    ],
)
def test_how_long_to_keep(urls: list[str], seconds: float) -> None:
    assert keep_seconds(urls, NOW, DAY, HOUR) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("url", "end"),
    [
        (BASE, NOW + HOUR),
        (ending(100), NOW + 100),
        (ending(-100), NOW - 100),
        (f"{BASE}?x-expires={int(NOW) + 100}", NOW + 100),
        ("data:image/png;base64,iVBORw0KGgo=", inf),
        ("", inf),
        (BASE.ljust(9_000, "x"), NOW),
    ],
)
def test_when_a_url_ends(url: str, end: float) -> None:
    assert url_ends([url], NOW, HOUR) == [end]
    assert url_ends(["", url, BASE], NOW, HOUR) == [inf, end, NOW + HOUR]


def test_many_urls_take_a_bounded_time() -> None:
    lasting, read = NOW + HOUR, MAX_URLS
    assert url_ends([BASE] * read + [BASE, "", "data:,x"], NOW, HOUR) == [
        *[lasting] * read,
        *(NOW, inf, inf),
    ]
    long = BASE.ljust(1_024, "x")
    read = MAX_CHARS // 1_024
    assert url_ends([long] * (read + 2), NOW, HOUR) == [lasting] * read + [NOW] * 2
    slow = f"{BASE}?{'%31a' * 2_000}"
    started = time.process_time()
    url_ends([slow] * 6_000, NOW, HOUR)
    assert time.process_time() - started < 0.5


@given(st.lists(st.integers(-1_000, 100_000), max_size=3), st.floats(1, DAY))
def test_cached_images_can_still_be_opened(lives: list[int], ttl: float) -> None:
    seconds = keep_seconds([ending(life) for life in lives], NOW, ttl, HOUR)
    assert seconds <= ttl
    for life in lives:
        assert seconds < life or seconds <= 0
        assert seconds <= life - min(MARGIN_SECONDS, life / 10) + 1e-6


@pytest.mark.parametrize(
    "query",
    [
        "x-expires={end}&x-signature=abc",
        "q-sign-time={now};{end}&q-signature=abc",
        "auth_key={end}-0-0-abc",
        "hdnea=exp={end}~acl=/*~hmac=abc",
        "url=https%3A%2F%2Fh%2Fx%3Fe%3D{end}",
        "end={end}000",
    ],
)
def test_a_likely_expiry_in_an_unknown_notation(query: str) -> None:
    url = f"{BASE}?{query.format(now=int(NOW), end=int(NOW) + 100)}"
    assert keep_seconds([url], NOW, DAY, HOUR) == pytest.approx(90)


def test_numbers_that_are_no_likely_expiry_leave_the_default() -> None:
    for query in (f"v={NOW:.0f}", "id=9999999999", f"n={NOW + 1:.0f}0", "w=1024"):
        assert keep_seconds([f"{BASE}?{query}"], NOW, DAY, HOUR) == HOUR


def test_urls_that_take_long_to_read_are_not_kept() -> None:
    assert keep_seconds([BASE.ljust(9_000, "x")], NOW, DAY, HOUR) <= 0
    fields = f"{BASE}?{'&'.join(['a=b'] * MAX_FIELDS)}"
    assert keep_seconds([fields], NOW, DAY, HOUR) == HOUR
    assert keep_seconds([f"{fields}&a=b"], NOW, DAY, HOUR) <= 0
    many = [BASE.ljust(1_024, "x")] * (MAX_CHARS // 1_024)
    assert keep_seconds(many, NOW, DAY, HOUR) == HOUR
    assert keep_seconds([*many, BASE], NOW, DAY, HOUR) <= 0
    assert keep_seconds([BASE] * MAX_URLS, NOW, DAY, HOUR) == HOUR
    assert keep_seconds([BASE] * (MAX_URLS + 1), NOW, DAY, HOUR) <= 0
