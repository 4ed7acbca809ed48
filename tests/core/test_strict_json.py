"""Everything but a plain JSON object is refused. Each cause has its code, without an echo."""

import json
import math
import sys
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidRequest
from gateway.core.strict_json import MAX_DIGITS, MAX_LEVELS, MAX_STRUCTURE, read_object, write_json

MIB = 2**20

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(texts, values, max_size=6)


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_object(body)
    return caught.value


def typed(value: Any) -> Any:
    """Return a value that also compares the types, the order of keys and -0.0."""
    if isinstance(value, dict):
        return [(key, typed(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return (type(value), repr(value))


def nested(levels: int, inside: str = "1") -> bytes:
    """Return an object of lists, nested to so many levels."""
    return b'{"a":' + b"[" * (levels - 1) + inside.encode() + b"]" * (levels - 1) + b"}"


REFUSED = {
    "empty_body": (b"",),
    "invalid_json": (
        *(b" ", b"\x00", b'{"a":1', b'{"a":1,}', b"{'a':1}", b'{"a":01}', b'{"a":.5}'),
        *(b'{"a":nan}', b'{"a":"line\nbreak"}', b'{"a":"\\u12"}', b'{"a":1} // comment'),
        *(b'{"a":1}{"a":1}', b'{"a":1}\x00', '{"a":1}'.encode("utf-16-le")),
    ),
    "not_an_object": (b"[]", b"1", b"null"),
    "duplicate_key": (
        *(b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}'),
        b'{"a":[{"c":{"b":1,"x":0,"b":2}}]}',
    ),
    "invalid_number": (
        *(b'{"a":Infinity}', b'{"a":[{"b":[NaN]}]}', b'{"a":1e400}', b'{"a":[1.0E+999]}'),
        *(b'{"a":' + b"9" * 400 + b".5}", b'{"a":' + b"9" * 4301 + b"}"),
        b'{"a":-' + b"9" * 4300 + b"}",
    ),
    "invalid_encoding": (
        *(b'{"a":"\\ud800"}', b'{"a":"\\udc00\\ud800"}', b'{"a":"\\ud83d\\\\ude00"}'),
        *(b'{"\\ud800":1}', b'{"a":[{"\\udfff":1}]}', b'{"a":"\xc3"}', b'{"a":"\xc0\xaf"}'),
        *(b'{"a":"\xed\xa0\x80"}', b'\xef\xbb\xbf\xff{"a":1}', '{"a":1}'.encode("utf-16")),
    ),
    "too_deep": (
        *(nested(MAX_LEVELS + 1), b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"[" * 100_000),
        b'{"a":"\\\\"' + b',"b":[' * 65 + b"]" * 65 + b"}",
    ),
    "too_much_structure": (
        *(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"]" * MIB),
        *(b'{"a":[' + b"1," * 40_000 + b"1]}", b'{"a":"' + b'","' * 140_000 + b'"}'),
    ),
}


@pytest.mark.parametrize(
    ("body", "code"), [(body, code) for code, bodies in REFUSED.items() for body in bodies]
)
def test_each_cause_is_refused_with_its_code(body: bytes, code: str) -> None:
    error = refusal(body)
    assert (error.status, error.type, error.code) == (400, "invalid_request_error", code)
    assert error.param is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"CANARY":1,"CANARY":2}',
        b'{"CANARY":"CANARY" CANARY}',
        b'{"CANARY":"CANARY\\ud800"}',
        b'{"CANARY":"CANARY\xff"}',
        b'{"CANARY":NaN}',
        b'"CANARY"',
        b'{"CANARY":' + b"9" * 5000 + b"}",
        nested(100, '"CANARY"'),
    ],
)
def test_an_error_carries_nothing_of_the_body(body: bytes) -> None:
    error: BaseException | None = refusal(body)
    while error is not None:
        assert "CANARY" not in repr(error) + str(vars(error))
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", {}),
        (b' \t\r\n{ "a" : 1 }\n', {"a": 1}),
        (b'{"a":1,"b":1.0,"c":1e2,"d":-0.0}', {"a": 1, "b": 1.0, "c": 100.0, "d": -0.0}),
        (b'{"a":1e308,"b":5e-324,"c":1e-400}', {"a": 1e308, "b": 5e-324, "c": 0.0}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":"\\\\ud800"}', {"a": "\\ud800"}),
        (b'{"a":"\\u0000\\u001f\\n"}', {"a": "\x00\x1f\n"}),
        (b'{"a":"\xef\xbb\xbf"}', {"a": "\ufeff"}),
        (b'\xef\xbb\xbf{"a":"\xef\xbb\xbf"}', {"a": "\ufeff"}),
        (b"\xef\xbb\xbf \r\n{}", {}),
        ('{"é":1,"e\u0301":2}'.encode(), {"é": 1, "e\u0301": 2}),
        (b'{"a":{"b":1},"c":{"b":1},"b":1}', {"a": {"b": 1}, "c": {"b": 1}, "b": 1}),
        (b'{"a":"NaN","b":"1e400"}', {"a": "NaN", "b": "1e400"}),
    ],
)
def test_values_are_read_exactly(body: bytes, expected: dict[str, Any]) -> None:
    assert typed(read_object(body)) == typed(expected)


def test_the_largest_integers_pass() -> None:
    digits = "9" * MAX_DIGITS
    assert read_object(f'{{"a":{digits}}}'.encode()) == {"a": int(digits)}


def test_the_deepest_nesting_passes() -> None:
    value = read_object(nested(MAX_LEVELS))["a"]
    for _ in range(MAX_LEVELS - 1):
        (value,) = value
    assert value == 1


@pytest.mark.parametrize(
    "text", ["[" * 1000, "{[,]}" * 20_000, '"' * 300_000, '\\"[' * 50_000, "\\" * 99_999 + '"[']
)
def test_brackets_and_quotes_in_strings_do_not_count_as_structure(text: str) -> None:
    body = json.dumps({"a": text, "b": [1]}).encode()
    assert read_object(body) == {"a": text, "b": [1]}


def test_as_many_values_as_structure_allows_pass() -> None:
    value = {"a": [0] * (MAX_STRUCTURE // 2 - 10)}
    assert read_object(write_json(value)) == value


@pytest.mark.parametrize(
    "unit",
    [
        *("[],", "{},", "1,", "1.5,", "9" * 4300 + ",", "9", "[", "]", '{"a":', '"",', '"\\\\",'),
        *('"a":1,', '\\"', "\\\\", "\\u0041", "\\ud83d\\ude00", " ", "-", '"'),
    ],
)
@pytest.mark.parametrize("start", ['{"a":', '{"a":[', '{"a":"', "{"])
def test_a_mebibyte_of_junk_is_read_quickly(start: str, unit: str) -> None:
    body = (start + unit * (MIB // len(unit))).encode()
    started = process_time()
    refusal(body)
    # About 15 ms on an idle machine. Without the limits, some of these take seconds.
    assert process_time() - started < 0.5


@given(st.binary(max_size=60) | st.text('{}[]",:\\ud8019.eE-N \n', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        value = read_object(body)
    except InvalidRequest:
        return
    assert typed(value) == typed(json.loads(body))


@given(objects)
def test_objects_survive_writing_and_reading(value: dict[str, Any]) -> None:
    for body in (write_json(value), json.dumps(value, indent=1).encode()):
        assert typed(read_object(body)) == typed(value)


def test_writing_is_compact_and_unescaped() -> None:
    assert write_json({"a": [1, 2.5], "é": None}) == '{"a":[1,2.5],"é":null}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_writing_refuses_numbers_that_json_does_not_have(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": value})


def test_the_limit_of_digits_is_within_that_of_the_interpreter() -> None:
    assert sys.get_int_max_str_digits() in (0, *range(MAX_DIGITS, 10**6))
