"""Places are named so that they can be found, and no name can disturb a terminal."""

import pytest

from gateway.config.errors import ConfigError, Place, did_you_mean, shown

FILE = Place("config/gateway.toml")


def test_places() -> None:
    assert FILE.option("port") == "config/gateway.toml: port"
    assert FILE.table("server").option("port") == "config/gateway.toml: [server] port"
    model = FILE.table("models").table("gpt-image-2.1")
    assert str(model.table("sizes")) == 'config/gateway.toml: [models."gpt-image-2.1".sizes]'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "port"),
        ("", '""'),
        ("a b", '"a b"'),
        ("\x1b[31m\n", '"\\u001b[31m\\n"'),
        ("\udcff", '"\\udcff"'),
        ("ü", '"\\u00fc"'),
        pytest.param("x" * 1_000, "x" * 64, id="long"),
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


def test_all_faults_are_in_the_error() -> None:
    error = ConfigError(["one", "two"])
    assert error.faults == ["one", "two"]
    assert str(error) == "one\ntwo"
