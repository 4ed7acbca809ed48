"""Ranges and tags of pictures: what RFC 9110 asks for, and nothing more."""

import pytest

from gateway.web.images import Part, WrongRange, has_tag, range_of


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("", None),
        ("bytes=0-", Part(0, 10)),
        ("bytes=0-0", Part(0, 1)),
        ("bytes=2-5", Part(2, 6)),
        ("bytes=9-99", Part(9, 10)),
        ("bytes=-3", Part(7, 10)),
        ("bytes=-99", Part(0, 10)),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=0-1,3-4", None),
        ("bytes=a-b", None),
        ("bytes=٣-", None),
        ("bytes=0-9999999999999", None),
        ("items=0-1", None),
    ],
)
def test_ranges(header: str | None, part: Part | None) -> None:
    assert range_of(header, 10) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_beyond_the_end(header: str) -> None:
    with pytest.raises(WrongRange) as refused:
        range_of(header, 10)
    assert refused.value.headers == {"Content-Range": "bytes */10"}


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (None, False),
        ("*", True),
        ('"a"', True),
        ('"b"', False),
        ('"b", W/"a"', True),
        ("a", False),
        ('"b","c"', False),
    ],
)
def test_tags(header: str | None, known: bool) -> None:
    assert has_tag(header, '"a"') == known
