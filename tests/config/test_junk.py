"""Random content of the files and the environment: it is read, or the faults can be printed."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.load import read_settings
from gateway.config.models import GPT_IMAGE_2, SizeRules, TokenPrices
from gateway.config.settings import SECTIONS
from gateway.config.teams_file import TeamOptions, read_teams
from gateway.core.faults import ConfigError

OPTIONS = [
    f"{section}.{name}" for section in SECTIONS for name in SECTIONS[section].__struct_fields__
]
VARIABLES = [f"GATEWAY_{option}".replace(".", "_").upper() for option in OPTIONS]
MODEL = [
    *("models", 'models."\\u0000".x', "models.b.default", "models.a", "models.a.max_n"),
    *("models.a.default", "models.a.defaults", "models.a.defaults.n", "models.a.defaults.size"),
    *("models.a.prices", "models.a.prices.low", "models.a.billing", "models.a.token_prices"),
    *(f"models.a.token_prices.{name}" for name in TokenPrices.__struct_fields__),
]
SIZES = [f"models.a.sizes.{name}" for name in SizeRules.__struct_fields__]

NAMES = st.sampled_from([*SECTIONS, *OPTIONS, *MODEL, *SIZES])
VALUES = st.sampled_from(
    [
        *("0", "1", "-1", "9" * 30, "1.5", "1e400", "1e99999999999999999999", "nan", "-inf"),
        *("true", "''", "'http://['", '"\\u0000"', "'1024x1024'", "'tokens'", "'low'"),
        *("[]", "[1]", "[[]]", "['auto','1024x1024']", "['gpt-image-2']"),
        *("{}", "{a=1}", "{1024x1024=1}", "{images_per_day=1}", "1979-05-27", "07:32:00"),
        "0x" + "f" * 9_000,
    ]
)
TEAM_NAMES = st.sampled_from([*TeamOptions.__struct_fields__, "limits", "nonsense"])


def check(read: Callable[[], object]) -> None:
    """Read, and check that the faults can be printed."""
    faults = list[str]()
    try:
        read()
    except ConfigError as error:
        faults = [str(fault) for fault in error.faults]
    assert all(fault.isprintable() and fault.isascii() for fault in faults)


def read_or_refuse(text: str, environ: dict[str, str]) -> None:
    check(lambda: read_settings(text, environ, needs_upstream=True))


@given(st.dictionaries(NAMES, VALUES))
def test_junk_in_known_places(values: dict[str, str]) -> None:
    read_or_refuse("\n".join(f"{name} = {value}" for name, value in values.items()), {})


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


@given(st.dictionaries(TEAM_NAMES, VALUES), st.dictionaries(st.text(max_size=5), VALUES))
def test_junk_teams(options: dict[str, str], others: dict[str, str]) -> None:
    lines = [f"teams.{name} = {value}" for name, value in others.items()]
    lines += ["[teams.team]", *(f"{name} = {value}" for name, value in options.items())]
    check(lambda: read_teams("\n".join(lines), models={GPT_IMAGE_2.name: GPT_IMAGE_2}))
