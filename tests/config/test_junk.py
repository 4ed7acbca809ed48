"""Whatever stands in the file or the environment: settings, or faults that can be printed."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.errors import ConfigError
from gateway.config.load import read_settings
from gateway.config.models import SizeRules, TokenPrices
from gateway.config.settings import SECTIONS

OPTIONS = [
    f"{section}.{name}" for section in SECTIONS for name in SECTIONS[section].__struct_fields__
]
VARIABLES = [f"GATEWAY_{option}".replace(".", "_").upper() for option in OPTIONS]
MODEL = [
    "models",
    "models.a",
    "models.a.prices",
    "models.a.prices.low",
    "models.a.billing",
    "models.a.token_prices",
    *(f"models.a.token_prices.{name}" for name in TokenPrices.__struct_fields__),
    "models.a.max_n",
    "models.a.default",
    "models.a.defaults",
    "models.a.defaults.n",
    "models.a.defaults.size",
    "models.b.default",
    'models."\\u0000".x',
]
SIZES = [f"models.a.sizes.{name}" for name in SizeRules.__struct_fields__]

NAMES = st.sampled_from([*SECTIONS, *OPTIONS, *MODEL, *SIZES])
VALUES = st.sampled_from(
    [
        "0",
        "1",
        "-1",
        "999999999999999999999999999999",
        "1.5",
        "1e400",
        "1e99999999999999999999",
        "nan",
        "-inf",
        "true",
        "''",
        "'http://['",
        '"\\u0000"',
        "'1024x1024'",
        "'tokens'",
        "[]",
        "[1]",
        "[[]]",
        "['auto','1024x1024']",
        "{}",
        "{a=1}",
        "{1024x1024=1}",
        "1979-05-27",
        "07:32:00",
    ]
) | st.just("0x" + "f" * 9_000)


def read_or_refuse(text: str, environ: dict[str, str]) -> None:
    found = ["nothing wrong"]
    try:
        read_settings(text, environ, needs_upstream=True)
    except ConfigError as error:
        found = [str(fault) for fault in error.faults]
    assert found
    assert all(fault.isprintable() and fault.isascii() for fault in found)


@given(st.dictionaries(NAMES, VALUES))
def test_junk_in_known_places(values: dict[str, str]) -> None:
    read_or_refuse("\n".join(f"{name} = {value}" for name, value in values.items()), {})


@given(NAMES, VALUES)
def test_one_junk_value(name: str, value: str) -> None:
    read_or_refuse(f"{name} = {value}", {})


@given(st.text())
def test_junk_text(text: str) -> None:
    read_or_refuse(text, {})


@given(
    st.dictionaries(
        st.sampled_from(VARIABLES)
        | st.text().map("GATEWAY_{}".format)
        | st.text().map("GATEWAY_SERVER_{}".format),
        st.text() | VALUES,
    )
)
def test_a_junk_environment(environ: dict[str, str]) -> None:
    read_or_refuse("", environ)
