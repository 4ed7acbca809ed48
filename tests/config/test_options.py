"""TOML text into tables, and tables into the fields of a Struct. No fault shows a value."""

import re
from decimal import Decimal
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, inspect

from gateway.config.options import (
    Usd,
    describe,
    options_of,
    parse_toml,
    read_fields,
    read_table,
    variable_of,
)
from gateway.core.faults import ConfigError, Faults
from gateway.core.secret import Secret

NOT_PORTS: list[object] = [-1, 65_536, 2**70, 16**3_000, "80", True, Decimal(80), [80], {}, None]
NOT_BOOLEANS: list[object] = [1, 0, "true", []]
NOT_SECONDS: list[object] = [0, 61, True, "1", Decimal("NaN"), Decimal("Infinity"), 16**3_000]


def check_even(value: int) -> None:
    if value % 2:
        raise ValueError("odd")


class Example(Struct):
    """One option of each kind."""

    port: Annotated[int, Meta(ge=0, le=65_535)] = 80
    seconds: Annotated[float, Meta(gt=0, le=60)] = 1.0
    enabled: bool = True
    level: Literal["info", "error"] = "info"
    name: str | None = None
    fields: tuple[str, ...] = ()
    cost: Usd | None = None
    pairs: Annotated[int, Meta(description="even", extra={"check": check_even})] = 0
    key: Annotated[Secret | None, Meta(description="a key")] = None


OPTIONS = options_of(Example, section="example")


def read(table: object) -> tuple[dict[str, object], list[str]]:
    faults = Faults("file.toml", ("example",))
    values = read_table(table, OPTIONS, faults, tables=("inner",))
    return values, list(map(str, faults.found))


def test_right_values() -> None:
    values, faults = read(
        {
            "port": 0,
            "seconds": Decimal("0.5"),
            "enabled": False,
            "level": "error",
            "name": "",
            "fields": ["a", "b"],
            "cost": Decimal("0.006"),
            "pairs": 2,
            "inner": {"anything": 1},
        }
    )
    assert not faults
    assert values == {
        "port": 0,
        "seconds": 0.5,
        "enabled": False,
        "level": "error",
        "name": "",
        "fields": ("a", "b"),
        "cost": 6_000,
        "pairs": 2,
    }


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        *(("port", value, "an integer from 0 to 65535") for value in NOT_PORTS),
        *(("seconds", value, "a number above 0 and up to 60") for value in NOT_SECONDS),
        *(("enabled", value, "true or false") for value in NOT_BOOLEANS),
        *(("level", value, '"info" or "error"') for value in ("loud", "INFO", 1)),
        *(("name", value, "text") for value in (1, True, ["a"])),
        *(("fields", value, "a list, each item text") for value in ("a", {"a": "b"})),
        ("fields", ["a", 1], "a list, each item text; item 2 is wrong"),
        *(
            ("cost", value, "dollars, 0 or more, with at most six decimals, such as 0.05")
            for value in (-1, True, Decimal("0.0000001"), Decimal("NaN"), "1e3", "canary", [1])
        ),
        *(("pairs", value, "even") for value in (1, "2")),
    ],
)
def test_wrong_values(name: str, value: object, text: str) -> None:
    values, (fault,) = read({name: value})
    assert not values
    words = set(fault.removeprefix(f"file.toml: [example] {name}: must be ").split(" or "))
    assert words == set(text.split(" or "))


def test_one_fault_hides_no_other() -> None:
    values, faults = read({"port": -1, "prot": 1, "enabled": False, "level": 3})
    assert values == {"enabled": False}
    assert [fault.split(":")[1] for fault in faults] == [
        " [example] port",
        " [example] prot",
        " [example] level",
    ]


def test_unknown_names_have_a_hint() -> None:
    assert read({"prot": 1})[1] == [
        "file.toml: [example] prot: no such option; did you mean 'port'?"
    ]
    assert read({"iner": {}})[1] == [
        "file.toml: [example] iner: no such option; did you mean 'inner'?"
    ]
    assert read({"\x1b[2J": "canary"})[1] == ['file.toml: [example] "\\u001b[2J": no such option']


@pytest.mark.parametrize("value", ["sk-canary", 1, None])
def test_a_secret_in_a_file_is_refused(value: object) -> None:
    values, faults = read({"key": value})
    assert not values
    assert faults == [
        "file.toml: [example] key: must not be in a file: set the environment variable "
        "GATEWAY_EXAMPLE_KEY"
    ]


@pytest.mark.parametrize("table", [1, "text", [], [{}], None])
def test_tables(table: object) -> None:
    assert read(table) == ({}, ["file.toml: [example]: must be a table"])


class Inner(Struct, frozen=True):
    """A table inside another one."""

    level: int = 1


class Outer(Struct, kw_only=True):
    """A table with a required option and two tables."""

    name: str
    inner: Inner = Inner()
    named: dict[str, Inner] = {}


def test_tables_inside_a_table() -> None:
    faults = Faults("", ("outer",))
    table: object = {"inner": {"level": 2}, "named": 3}
    assert read_fields(table, Outer, faults, tables=("named",)) == {"inner": Inner(level=2)}
    read_fields({"inner": {"level": "x"}, "name": "y"}, Outer, faults, tables=("named",))
    assert list(map(str, faults.found)) == [
        "[outer] name: is needed",
        "[outer.inner] level: must be an integer",
    ]


def test_no_value_needs_no_check() -> None:
    assert OPTIONS["cost"].convert(None) is None


def test_variables_of_options() -> None:
    assert options_of(Example)["key"].variable is None
    assert variable_of("example", "key") == OPTIONS["key"].variable == "GATEWAY_EXAMPLE_KEY"


def test_a_type_that_no_option_has() -> None:
    with pytest.raises(TypeError):
        describe(inspect.type_info(bytes))


# -- TOML ---------------------------------------------------------------------------------------


def syntax_fault(text: str) -> str:
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
    line = syntax_fault(text)
    assert line.startswith("file.toml: not valid TOML: ")
    assert re.search(rf"\(at line {number}, column \d+\)", line)
    assert "canary" not in line


def test_too_many_digits() -> None:
    assert syntax_fault(f"a = {'9' * 5_000}") == "file.toml: an integer has too many digits"


@pytest.mark.parametrize("bracket", ["[", "{a="])
def test_too_deep(bracket: str) -> None:
    assert syntax_fault("a = " + bracket * 100_000).startswith("file.toml: ")


@given(st.text())
def test_nothing_else_is_raised(text: str) -> None:
    try:
        parse_toml(text, "file.toml")
    except ConfigError as error:
        (line,) = map(str, error.faults)
        assert line.isascii()
        assert "\n" not in line
