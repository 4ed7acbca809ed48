"""TOML text: exact numbers, and one fault with its line and column."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.errors import ConfigError
from gateway.config.toml import parse_toml


def fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_toml(text, "file.toml")
    (line,) = map(str, caught.value.faults)
    return line


def test_numbers_with_a_point_are_exact() -> None:
    assert parse_toml("a = 0.1\nb = 1_0.5e1\nc = 1", "") == {
        "a": Decimal("0.1"),
        "b": Decimal(105),
        "c": 1,
    }
    assert parse_toml(f"a = 1e{'9' * 30}", "")["a"].is_nan()


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault() -> None:
    assert parse_toml("\ufeffa = 1\r\nb = 2\r\n", "") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("[server]\nport = 80 80", 2),
        ("port = ", 1),
        ("[server]\nport = 1\nport = 2", 3),
        ("[server]\n[server]\n", 2),
        ("\n\nkey = 'sk-canary", 3),
        ("\x00", 1),
        ('key = "\\q"', 1),
    ],
)
def test_a_syntax_error_has_line_and_column(text: str, number: int) -> None:
    line = fault(text)
    assert line.startswith("file.toml: not valid TOML: ")
    assert re.search(rf"\(at line {number}, column \d+\)", line)
    assert "canary" not in line


def test_too_many_digits() -> None:
    assert fault(f"a = {'9' * 5_000}") == "file.toml: an integer has too many digits"


@pytest.mark.parametrize("bracket", ["[", "{a="])
def test_too_deep(bracket: str) -> None:
    assert fault("a = " + bracket * 100_000).startswith("file.toml: ")


@given(st.text())
def test_nothing_else_is_raised(text: str) -> None:
    try:
        parse_toml(text, "file.toml")
    except ConfigError as error:
        (line,) = map(str, error.faults)
        assert line.isascii()
        assert "\n" not in line
