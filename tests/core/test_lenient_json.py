"""Faulty JSON is read as what it means, in bounded time, and never as something else."""

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.lenient_json import MOST, read_leniently, to_utf8
from gateway.core.strict_json import MAX_DIGITS, MAX_LEVELS, read_object, write_json

TEXT = st.text(max_size=6) | st.sampled_from(['"', "\\", "NaN", ",]", "{", "\\u00", "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, JSON, min_size=1, max_size=3)


def finite(value: Any) -> Any:
    """Replace what JSON lacks by null, everywhere in a value."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(each) for each in value]
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    return value


@given(OBJECT, st.sampled_from([None, 1]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_an_object_is_read_whatever_its_encoding(
    value: dict[str, Any], indent: int | None, encoding: str
) -> None:
    body = json.dumps(value, indent=indent).encode(encoding)
    assert read_leniently(to_utf8(body)) == finite(value)


@given(OBJECT, st.text(alphabet="{}[],:\"\\a1 \n'", max_size=20))
def test_text_after_an_object_does_not_hide_it(value: dict[str, Any], junk: str) -> None:
    read = read_leniently(f"{json.dumps(value)}\n{junk}".encode())
    assert read is not None
    assert read.keys() >= value.keys()


@given(OBJECT)
def test_trailing_commas_are_left_out(value: dict[str, Any]) -> None:
    body = json.dumps(value, indent=1).replace("\n", ",\n").encode()
    marks = (b"{,", b"[,", b",,", b'},\n"')
    if not any(mark in body for mark in marks):
        assert read_leniently(body) == finite(value)


@given(st.binary(max_size=60) | st.text(alphabet='{}[],:"\\anN1e9+- \n', max_size=60))
def test_any_bytes_give_an_object_that_can_be_written_or_nothing(junk: bytes | str) -> None:
    read = read_leniently(junk if isinstance(junk, bytes) else junk.encode())
    if read is not None:
        assert read_object(write_json(read, errors="replace")).keys() is not None


@pytest.mark.parametrize(
    ("body", "read"),
    [
        ('{"a":nan,"b":-inf,"c":+Infinity,"d":undefined}', dict.fromkeys("abcd")),
        ('{"a":"NaN","b":"x,]"}', {"a": "NaN", "b": "x,]"}),
        ('{"a":1e999,"b":-1E+999,"c":1e-999}', {"a": None, "b": None, "c": 0.0}),
        (f'{{"a":{"9" * MAX_DIGITS}}}', {"a": int("9" * MAX_DIGITS)}),
        (f'{{"a":{"9" * (MAX_DIGITS + 1)}}}', {"a": None}),
        ('{"a":[1, ],"b":{"c":1,\t},\r\n}', {"a": [1], "b": {"c": 1}}),
        ('{"a":"\\q","b":"\\\\\\"","c":"\\u12"}', {"a": "\\q", "b": '\\"', "c": "\\u12"}),
        ('{"a":"x\ny\tz\x00"}', {"a": "x\ny\tz\0"}),
        ('{"a":1,"a":0,"b":"x","b":""}', {"a": 0, "b": "x"}),
        ('{"a":1,"a":null,"b":[],"b":{},"b":null}', {"a": 1, "b": []}),
        ('{"a":[1],"a":[2],"b":[1],"b":2,"c":1,"c":[2]}', {"a": [1, 2], "b": 2, "c": [2]}),
        ('data: {"a":1}\n\ndata: {"a":[2]}', {"a": [2]}),
        ('[{"a":1},{"b":2},{"c"', {"a": 1, "b": 2}),
    ],
)
def test_faults_are_mended(body: str, read: Any) -> None:
    assert read_leniently(body.encode()) == read


@pytest.mark.parametrize(
    "body",
    [
        *("", "{}", "[]", "null", "{", '{"a"}', '{"a":}', '{"a":1', '{"a":[1}', "{'a':1}"),
        *('{"a":nano}', '{"a":[' + "[" * MAX_LEVELS),
        '" {"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_nothing_that_could_be_meant(body: str) -> None:
    assert read_leniently(body.encode()) is None


@pytest.mark.parametrize("over", [0, 1, 2_000, 60_000])
def test_levels_below_the_deepest_become_null(over: int) -> None:
    opened, closed = '[{"y":' * over, "}]" * over
    inner = "[" * (MAX_LEVELS - 1)
    body = f'{{"x":{inner}{opened}1{closed}{inner.replace("[", "]")},"z":2}}'
    read = read_leniently(body.encode())
    assert read is not None
    assert read["z"] == 2
    value = read["x"]
    for _ in range(MAX_LEVELS - 1):
        (value,) = value
    assert value == (None if over else 1)


@pytest.mark.parametrize("over", [False, True])
def test_text_with_too_many_parts_is_not_read(over: bool) -> None:
    # The object, its list, its name and its commas.
    values = ",".join("1" * (MOST - 4 + over))
    for text in (f'{{"x":[{values}]}}', '{"x":"' + "\\n" * (MOST + over) + '"}'):
        began = time.thread_time()
        assert (read_leniently(text.encode()) is None) == over
        assert time.thread_time() - began < 1.5
