"""Faults as text: each names its place, and no name can disturb a terminal."""

import pytest

from gateway.core.faults import (
    COMMAND_LINE,
    DEFAULT,
    ENVIRONMENT,
    ConfigError,
    Fault,
    Faults,
    did_you_mean,
    shown,
)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(("server", "port"), "m", "a.toml"), "a.toml: [server] port: m"),
        (Fault(("server",), "m", "a.toml"), "a.toml: [server]: m"),
        (Fault((), "m", "a.toml"), "a.toml: m"),
        (Fault(("a", "b.1", "c"), "m"), '[a."b.1"] c: m'),
        (Fault(("GATEWAY_X",), "m", ENVIRONMENT), "environment GATEWAY_X: m"),
        (Fault(("--port",), "m", COMMAND_LINE), "command line --port: m"),
        (Fault(("server", "port"), "m", DEFAULT), "default: [server] port: m"),
    ],
)
def test_text(fault: Fault, text: str) -> None:
    assert str(fault) == text


def test_faults_of_inner_tables_are_collected_in_one_list() -> None:
    faults = Faults("a.toml")
    faults.at("server").add("one", "port")
    faults.at("models").at("x").add("two")
    assert faults.found == [
        Fault(("server", "port"), "one", "a.toml"),
        Fault(("models", "x"), "two", "a.toml"),
    ]
    assert str(ConfigError(faults.found)) == "a.toml: [server] port: one\na.toml: [models] x: two"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "port"),
        ("", '""'),
        ("a b", '"a b"'),
        ("\x1b[31m\n", '"\\u001b[31m\\n"'),
        ("\udcff", '"\\udcff"'),
        ("ü", '"\\u00fc"'),
        pytest.param("x" * 1_000, "x" * 128, id="long"),
    ],
)
def test_names_are_escaped(name: str, text: str) -> None:
    assert shown(name) == text


def test_hints() -> None:
    assert did_you_mean("prot", ["host", "port"]) == "; did you mean 'port'?"
    assert did_you_mean("colour", ["host", "port"]) == ""
    assert did_you_mean("A_PROT", ["A_PORT", "B_PROT"], after="A_") == "; did you mean 'A_PORT'?"
    assert did_you_mean("LONG_X", ["LONG_Y"], after="LONG_") == ""
    assert did_you_mean("x" * 1_000_000, ["host"]) == ""
