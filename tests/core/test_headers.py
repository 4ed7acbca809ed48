"""Headers of requests and responses."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.headers import (
    bearer,
    clamp_retry_after,
    content_type_fault,
    request_id,
    retry_after,
)
from gateway.quota.limits import Meter, RateLimitStatus
from gateway.web.rate_limit_headers import rate_limit_headers, server_timing

NOW = 1_750_000_000.25
JUNE = "15 Jun 2025 15:07:00"


# -- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "token"),
    [
        (["Bearer abc"], "abc"),
        (["BEARER   abc"], "abc"),
        (["Bearer a.b-c_d~e+f/g=="], "a.b-c_d~e+f/g=="),
        (["Bearer " + "x" * 200], "x" * 200),
        *(
            ([value], None)
            for value in (
                *("", "Bearer ", "Bearer\tabc", "Bearer abc ", "Bearer abc\n", 'Bearer "abc"'),
                *("Bearer abc, Bearer abc", "Bearer " + "x" * 201, "Bearer a\x00b"),
                *("Bearer \u00e9", "Bearer a\u212a", "Bearer \udc80", "Basic abc"),
            )
        ),
        ([], None),
        (["Bearer abc", "Bearer abc"], None),
    ],
)
def test_bearer(values: list[str], token: str | None) -> None:
    assert bearer(values) == token


@pytest.mark.parametrize(
    "value", ["a", "req_123", "6f1c1f0e-7d0b-4e0c-8a43-aaaaaaaaaaaa", "A:b/c+d=e@f.g", "x" * 128]
)
def test_a_plain_request_id_is_kept(value: str) -> None:
    assert request_id(value, lambda: "fresh") == value


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "x" * 129, "a b", "a\n", "a\x00", "\u00e9", "a,b", "a%20b", "{}", "\u0661"),
        *("sk-gw-0123456789ab_x", "key:sk-abc", "SK-abc"),
    ],
)
def test_any_other_request_id_is_replaced(value: str | None) -> None:
    assert request_id(value, lambda: "fresh") == "fresh"


@pytest.mark.parametrize(
    "value",
    [
        *("application/json", "Application/JSON", " application/json "),
        *("application/json; charset=utf-8", 'application/json; charset="utf-8"'),
        *("application/json; profile=x; charset=utf-8", "application/vnd.api+json"),
        *("application/json; charset=UTF8", 'application/json;charset="Us-Ascii"'),
        "application/vnd.a.b-c+x+json; charset=utf-8",
    ],
)
def test_json_content_types(value: str) -> None:
    assert content_type_fault(value) is None


@pytest.mark.parametrize(
    "value",
    [
        *(None, "multipart/form-data; boundary=x", "text/json", "application/jsonp"),
        *("application/+json", "application/json charset=utf-8", "application/json, text/plain"),
        *("application/json; charset=utf-16", "application/json; charset=utf-8; charset=utf-16"),
        "application/json\x00",
    ],
)
def test_other_content_types(value: str | None) -> None:
    assert content_type_fault(value) is not None


@pytest.mark.parametrize(
    ("charset", "named"),
    [
        *(("UTF-16", "utf-16"), ('"ISO-8859-1"', "iso-8859-1"), ("gb18030", "gb18030")),
        *((other, "another charset") for other in ("", "canary", "utf-16\x00", '""', "*")),
    ],
)
def test_only_known_charsets_are_named(charset: str, named: str) -> None:
    for before in ("", "charset=utf-8; ", "boundary=x;"):
        fault = content_type_fault(f"application/json; {before}charset={charset}")
        assert fault == f"Send the request in UTF-8, not in {named}."


@given(st.text(max_size=40))
def test_no_header_raises(value: str) -> None:
    bearer([value])
    content_type_fault(value)
    request_id(value, str)
    clamp_retry_after(value, value, NOW)


# -- responses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "spread", "seconds"),
    [
        (0.0, 0.0, 1.0),
        (1.0, 0.5, 1.1),
        (10.0, 0.5, 11.0),
        (49.0, 0.99, 58.702),
        (55.0, 0.99, 59.0),
        (3600.0, 0.0, 59.0),
    ],
)
def test_retry_after(wait: float, spread: float, seconds: float) -> None:
    assert retry_after(wait, spread) == pytest.approx(seconds)


@given(st.floats(-1e9, 1e9), st.floats(0, 1, exclude_max=True))
def test_retry_after_is_never_early_nor_a_minute(wait: float, spread: float) -> None:
    seconds = retry_after(wait, spread)
    assert 1 <= seconds <= 59
    assert seconds >= min(59, wait)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("1", 1),
        ("60", 59),
        ("999999999", 59),
        ("1.2", 1.2),
        (formatdate(NOW + 20, usegmt=True), 19.75),
        (formatdate(NOW + 3600, usegmt=True), 59),
        (formatdate(NOW - 3600, usegmt=True), 1),
        ("Sunday, 15-Jun-25 15:07:00 GMT", 19.75),
        ("Sun Jun 15 15:07:00 2025", 19.75),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 59),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 1),
        *((value, None) for value in (" ", "soon", "-5", "nan", "\u0663", "9" * 5000)),
        *((f"Sun, {rest}", None) for rest in ("99 Jun 2025 15:07:00 GMT", f"{JUNE} +9999999999")),
        ("=?utf-8?b?" + "A" * 60, None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 59),
    ],
)
def test_clamp_retry_after(value: str | None, seconds: float | None) -> None:
    assert clamp_retry_after(value, None, NOW) == seconds


@pytest.mark.parametrize(
    ("value", "milliseconds", "seconds"),
    [
        (None, "2500", 2.5),
        ("9", "2500", 2.5),
        (None, "20", 1),
        ("9", "90000", 59),
        ("9", "soon", 9),
        (formatdate(NOW + 20, usegmt=True), "-1", 19.75),
        (None, "", None),
    ],
)
def test_milliseconds_go_before_seconds(
    value: str | None, milliseconds: str, seconds: float | None
) -> None:
    assert clamp_retry_after(value, milliseconds, NOW) == seconds


def test_rate_limit_headers() -> None:
    assert rate_limit_headers(RateLimitStatus(Meter(60, 59, 1.0), Meter(100, 0, 3723.0))) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-images": "100",
        "x-ratelimit-remaining-images": "0",
        "x-ratelimit-reset-images": "1h2m3s",
    }
    assert set(rate_limit_headers(RateLimitStatus(images=Meter(1, 1, 0.0)))) == {
        "x-ratelimit-limit-images",
        "x-ratelimit-remaining-images",
        "x-ratelimit-reset-images",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0s"),
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.35, "350ms"),
        (0.999, "999ms"),
        (0.9995, "1s"),
        (1.0, "1s"),
        (1.001, "2s"),
        (59.0, "59s"),
        (59.5, "1m0s"),
        (360.0, "6m0s"),
        (3599.9, "1h0m0s"),
        (18_723.0, "5h12m3s"),
        (2_678_400.0, "744h0m0s"),
    ],
)
def test_resets_are_written_as_openai_does(seconds: float, text: str) -> None:
    headers = rate_limit_headers(RateLimitStatus(requests=Meter(1, 1, seconds)))
    assert headers["x-ratelimit-reset-requests"] == text


def test_server_timing_is_in_milliseconds() -> None:
    assert server_timing({"auth": 0.0000123, "upstream": 123.4567}) == (
        "auth;dur=0.01, upstream;dur=123456.70"
    )
    assert server_timing({}) == ""
