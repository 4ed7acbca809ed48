"""[models.X.token_prices]: what they are where nothing is written, and what they cannot be."""

import pytest

from gateway.config.errors import ConfigError
from gateway.config.model_tables import read_models
from gateway.config.models import TokenPrices
from gateway.config.toml import parse_toml
from gateway.core.faults import Faults

MONEY = "must be dollars, 0 or more, with at most six decimals, such as 0.05"


def token_prices(text: str, name: str = "a") -> TokenPrices | None:
    faults = Faults("f.toml", ("models",))
    table = parse_toml(f'[models."{name}"]\nprices = 1\n{text}', "")
    found, _ = read_models(table["models"], faults)
    if faults.found:
        raise ConfigError(faults.found)
    return found[name].token_prices


def faults(text: str, name: str = "a") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        token_prices(text, name)
    return [fault.removeprefix("f.toml: ") for fault in map(str, caught.value.faults)]


TOKENS = "billing = 'tokens'\n"
THREE = f"{TOKENS}token_prices.text_input = 2\ntoken_prices.image_input = '3.5'\n"
THREE += "token_prices.image_output = 1e-6\n"


@pytest.mark.parametrize("name", ["a", "gpt-image-2"])
@pytest.mark.parametrize("text", ["", "billing = 'table'"])
def test_none_where_the_table_is_billed(text: str, name: str) -> None:
    assert token_prices(text, name) is None


def test_all_of_them() -> None:
    more = "token_prices.cached_text_input = 0.5\ntoken_prices.cached_image_input = 0\n"
    assert token_prices(f"{THREE}{more}token_prices.text_output = 10") == TokenPrices(
        text_input=2_000_000,
        image_input=3_500_000,
        cached_text_input=500_000,
        cached_image_input=0,
        image_output=1,
        text_output=10_000_000,
    )


def test_what_is_left_out_costs_no_less_than_what_stands_in_for_it() -> None:
    assert token_prices(THREE) == TokenPrices(
        text_input=2_000_000,
        image_input=3_500_000,
        cached_text_input=2_000_000,
        cached_image_input=3_500_000,
        image_output=1,
        text_output=1,
    )


@pytest.mark.parametrize("text", [TOKENS, f"{TOKENS}[models.gpt-image-2.token_prices]"])
def test_the_known_prices_of_the_known_model(text: str) -> None:
    assert token_prices(text, "gpt-image-2") == TokenPrices(
        text_input=5_000_000,
        image_input=8_000_000,
        cached_text_input=1_250_000,
        cached_image_input=2_000_000,
        image_output=30_000_000,
        text_output=30_000_000,
    )


def test_one_other_price_for_the_known_model() -> None:
    found = token_prices(f"{TOKENS}token_prices.image_output = 24", "gpt-image-2")
    assert found is not None
    assert (found.image_output, found.text_output) == (24_000_000, 24_000_000)
    assert (found.text_input, found.cached_image_input) == (5_000_000, 2_000_000)


HERE = "[models.a.token_prices]"


@pytest.mark.parametrize("value", ["-1", "0.0000001", "true", "'canary'", "nan", "inf", "[1]"])
def test_what_is_no_price(value: str) -> None:
    text = THREE.replace("= 2", f"= {value}")
    assert faults(text) == [f"{HERE} text_input: {MONEY}"]


def test_missing_prices() -> None:
    needed = 'is needed where billing is "tokens"'
    assert faults(TOKENS) == [
        f"{HERE} {name}: {needed}" for name in ("text_input", "image_input", "image_output")
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("token_prices.audio = 1", f"{HERE} audio: no such option"),
        (
            "token_prices.text_inputs = 1",
            f"{HERE} text_inputs: no such option; did you mean 'text_input'?",
        ),
        (
            "token_prices.cached_text_input = 2.5",
            f"{HERE} cached_text_input: must not be above text_input",
        ),
        (
            "token_prices.cached_image_input = 4",
            f"{HERE} cached_image_input: must not be above image_input",
        ),
    ],
)
def test_what_cannot_stand_there(text: str, fault: str) -> None:
    assert faults(THREE + text) == [fault]


def test_no_table() -> None:
    assert faults(f"{TOKENS}token_prices = 5") == ["[models.a] token_prices: must be a table"]


@pytest.mark.parametrize("billing", ["", "billing = 'table'\n"])
@pytest.mark.parametrize("prices", ["token_prices.text_input = 5", f"{HERE}", "token_prices = 1"])
def test_prices_that_nobody_would_be_charged(billing: str, prices: str) -> None:
    assert faults(billing + prices) == [
        '[models.a] token_prices: needs billing = "tokens" to be charged'
    ]


def test_a_wrong_billing_is_one_fault() -> None:
    text = "billing = 'token'\ntoken_prices.text_input = 5"
    assert faults(text) == ['[models.a] billing: must be "table" or "tokens"']


def test_the_table_of_prices_is_needed_as_well() -> None:
    found = Faults()
    read_models({"gpt-image-2": {"billing": "tokens"}}, found)
    assert list(map(str, found.found)) == ["[gpt-image-2] prices: needs at least one price"]
