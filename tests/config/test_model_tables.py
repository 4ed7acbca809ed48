"""[models]: prices at every level, defaults that keep their own rules, one default model."""

import pytest
from msgspec.structs import replace

from gateway.config.model_tables import read_models
from gateway.config.models import (
    GPT_IMAGE_2,
    KNOWN_TOKEN_PRICES,
    Model,
    PriceTable,
    RequestDefaults,
    SizeRules,
    TokenPrices,
)
from gateway.config.options import parse_toml
from gateway.core.faults import ConfigError, Faults


def models(text: str) -> tuple[dict[str, Model], str]:
    faults = Faults("f.toml", ("models",))
    found = read_models(parse_toml(text, "").get("models", {}), faults)
    if faults.found:
        raise ConfigError(faults.found)
    return found


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        models(text)
    return [fault.removeprefix("f.toml: ") for fault in map(str, caught.value.faults)]


def prices(text: str) -> PriceTable:
    found, name = models(text)
    return found[name].prices


@pytest.mark.parametrize("text", ["", "[models]"])
def test_without_models_gpt_image_2_applies(text: str) -> None:
    assert models(text) == ({"gpt-image-2": GPT_IMAGE_2}, "gpt-image-2")


def test_every_option_of_a_model() -> None:
    found, default = models(
        """
        [models."vendor/draw-1.5"]
        default = true
        max_n = 4
        max_prompt_chars = 1_000
        billing = "table"
        prices = 0.04
        sizes.auto = false
        sizes.multiple_of = 8
        sizes.max_ratio = 1.5
        sizes.max_edge = 2048
        sizes.min_pixels = 100
        sizes.max_pixels = 4_000_000
        sizes.allowed = ["512x512", "512x768"]
        defaults.n = 2
        defaults.size = "512x768"
        """
    )
    assert default == "vendor/draw-1.5"
    assert found[default] == Model(
        name="vendor/draw-1.5",
        prices=PriceTable(flat=40_000),
        sizes=SizeRules(
            auto=False,
            multiple_of=8,
            max_ratio=1.5,
            max_edge=2048,
            min_pixels=100,
            max_pixels=4_000_000,
            allowed=("512x512", "512x768"),
        ),
        max_n=4,
        max_prompt_chars=1_000,
        defaults=RequestDefaults(n=2, size="512x768"),
    )


# -- prices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("[models.a]\nprices = 0.04", PriceTable(flat=40_000)),
        ("[models.a]\nprices = '0.006'", PriceTable(flat=6_000)),
        ("[models.a]\nprices = 0", PriceTable(flat=0)),
        ("[models.a]\nprices = 1e-6", PriceTable(flat=1)),
        ("[models.a.prices]\nlow = 0.006", PriceTable(cells={("low", None): 6_000})),
        (
            "[models.a.prices]\nlow = 1\nhigh.1024x1024 = '2'\nhigh.1536x1024 = 3",
            PriceTable(
                cells={
                    ("low", None): 1_000_000,
                    ("high", "1024x1024"): 2_000_000,
                    ("high", "1536x1024"): 3_000_000,
                }
            ),
        ),
    ],
)
def test_prices(text: str, table: PriceTable) -> None:
    assert prices(text) == table


MONEY = "must be dollars, 0 or more, with at most six decimals, such as 0.05"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[models.a]", "[models.a] prices: needs at least one price"),
        (
            "[models.a]\nbilling = 'tokens'\n[models.a.token_prices]\ntext_input = 1\n"
            "image_input = 1\nimage_output = 1",
            "[models.a] prices: needs at least one price",
        ),
        ("[models.a.prices]", "[models.a] prices: needs at least one price"),
        ("[models.a.prices.low]", "[models.a.prices] low: needs at least one price"),
        *(
            (f"[models.a]\nprices = {value}", f"[models.a] prices: {MONEY}")
            for value in ("-0.01", "0.0000001", "true", "'canary'", "nan", "inf", "[1]", "'-1'")
        ),
        ("[models.a.prices]\nlow = -1", f"[models.a.prices] low: {MONEY}"),
        ("[models.a.prices.low]\n1024x1024 = 1e-7", f"[models.a.prices.low] 1024x1024: {MONEY}"),
        ("[models.a.prices.low]\n1024x1024.x = 1", f"[models.a.prices.low] 1024x1024: {MONEY}"),
        (
            "[models.a.prices]\nhi = 1",
            "[models.a.prices] hi: is not low, medium or high; did you mean 'high'?",
        ),
        ("[models.a.prices]\nauto = 1", "[models.a.prices] auto: is not low, medium or high"),
        (
            "[models.a.prices.low]\nauto = 1",
            "[models.a.prices.low] auto: must be a size such as 1024x1024",
        ),
        (
            "[models.a.prices.low]\n64x1 = 1",
            "[models.a.prices.low] 64x1: must be a size such as 1024x1024",
        ),
        (
            "[models.a.prices.low]\n1000x1024 = 1",
            "[models.a.prices.low] 1000x1024: breaks the model's own size rules: "
            "size must have both edges divisible by 16",
        ),
    ],
)
def test_impossible_prices(text: str, fault: str) -> None:
    assert faults(text) == [fault]


# -- everything else ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("max_n = 0", "[models.a] max_n: must be an integer from 1 to 1000"),
        ("max_n = 1.5", "[models.a] max_n: must be an integer from 1 to 1000"),
        ("max_prompt_chars = true", "[models.a] max_prompt_chars: must be an integer from 1 to"),
        ("billing = 'token'", '[models.a] billing: must be "table" or "tokens"'),
        ("default = 1", "[models.a] default: must be true or false"),
        ("maxn = 1", "[models.a] maxn: no such option; did you mean 'max_n'?"),
        ("price = 1", "[models.a] price: no such option; did you mean 'prices'?"),
        ("default_n = 1", "[models.a] default_n: no such option"),
        ("defaults = 1", "[models.a] defaults: must be a table"),
        ("sizes = ['1024x1024']", "[models.a] sizes: must be a table"),
        ("sizes.auto = 1", "[models.a.sizes] auto: must be true or false"),
        ("sizes.max_ratio = 0.5", "[models.a.sizes] max_ratio: must be a number from 1 to 1000"),
        ("sizes.multiple_of = 0", "[models.a.sizes] multiple_of: must be an integer from 1 to"),
        ("sizes.allowed = []", "[models.a.sizes] allowed: must be a list that is not empty"),
        ("sizes.allowed = ['auto']", "[models.a.sizes] allowed: must be a list that is not empty"),
        (
            "sizes.allowed = ['1024x1024', '512x512']",
            "[models.a.sizes] allowed: item 2 breaks the model's own size rules: size must have",
        ),
        (
            "sizes.min_pixels = 9_000_000",
            "[models.a.sizes] min_pixels: must not be above max_pixels",
        ),
        ("defaults.n = 0", "[models.a.defaults] n: must be an integer from 1 to 1000"),
        ("defaults.n = 11", "[models.a.defaults] n: must not be above max_n"),
        ("defaults.size = 1024", '[models.a.defaults] size: must be "auto" or WxH'),
        ("defaults.size = 'canary'", '[models.a.defaults] size: must be "auto" or WxH'),
        (
            "defaults.size = '512x512'",
            "[models.a.defaults] size: breaks the model's own size rules: size must have",
        ),
        (
            "sizes.auto = false\ndefaults.size = 'auto'",
            "[models.a.defaults] size: breaks the model's own size rules: size must be WxH",
        ),
        (
            "sizes.allowed = ['1536x1024']",
            "[models.a.defaults] size: breaks the model's own size rules: size must be one of",
        ),
    ],
)
def test_impossible_models(text: str, fault: str) -> None:
    first, *_ = faults(f"[models.a]\nprices = 1\n{text}")
    assert first.startswith(fault)
    assert "canary" not in first


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a\\n", "ü", "a" * 129])
def test_impossible_names(name: str) -> None:
    (fault,) = faults(f'[models."{name}"]\nprices = 1')
    assert "a model's name has 1 to 128 letters, digits and . _ : / -" in fault
    assert fault.isascii()


@pytest.mark.parametrize("text", ["models = 1", "[[models]]", "[models]\na = 1"])
def test_models_are_tables(text: str) -> None:
    assert faults(text)[0].endswith("must be a table")


def test_faults_of_all_models_at_once() -> None:
    assert len(faults("[models.a]\nmax_n = 0\n[models.b]\nprices = -1\n[models.c]\nx = 1")) == 6


# -- the default model --------------------------------------------------------------------------

TWO = "[models.a]\nprices = 1\n{a}\n[models.b]\nprices = 1\n{b}"
ONE_DEFAULT = ["[models]: exactly one of several models needs default = true"]


@pytest.mark.parametrize(
    ("a", "b"),
    [("", ""), ("default = false", "default = false"), ("default = true", "default = true")],
)
def test_none_or_two_defaults(a: str, b: str) -> None:
    assert faults(TWO.format(a=a, b=b)) == ONE_DEFAULT


def test_one_default() -> None:
    found, default = models(TWO.format(a="", b="default = true"))
    assert (list(found), default) == (["a", "b"], "b")


@pytest.mark.parametrize("line", ["", "default = false", "default = true"])
def test_the_only_model_is_the_default(line: str) -> None:
    assert models(f"[models.a]\nprices = 1\n{line}")[1] == "a"


# -- token prices -------------------------------------------------------------------------------

TOKENS = "billing = 'tokens'\n"
THREE = f"{TOKENS}token_prices.text_input = 2\ntoken_prices.image_input = '3.5'\n"
THREE += "token_prices.image_output = 1e-6\n"
MORE = "token_prices.cached_text_input = 0.5\ntoken_prices.cached_image_input = 0\n"
MORE += "token_prices.text_output = 10"


def tokens(*prices: int) -> TokenPrices:
    return TokenPrices(**dict(zip(TokenPrices.__struct_fields__, prices, strict=True)))


KNOWN = TokenPrices(**KNOWN_TOKEN_PRICES["gpt-image-2"], text_output=30_000_000)


@pytest.mark.parametrize(
    ("name", "text", "prices"),
    [
        *(
            (name, text, None)
            for name in ("a", "gpt-image-2")
            for text in ("", "billing = 'table'")
        ),
        ("a", THREE + MORE, tokens(2_000_000, 3_500_000, 500_000, 0, 1, 10_000_000)),
        ("a", THREE, tokens(2_000_000, 3_500_000, 2_000_000, 3_500_000, 1, 1)),
        *(
            ("gpt-image-2", f"{TOKENS}{text}", KNOWN)
            for text in ("", "[models.gpt-image-2.token_prices]")
        ),
        (
            "gpt-image-2",
            f"{TOKENS}token_prices.image_output = 24",
            replace(KNOWN, image_output=24_000_000, text_output=24_000_000),
        ),
    ],
)
def test_token_prices(name: str, text: str, prices: TokenPrices | None) -> None:
    assert models(f'[models."{name}"]\nprices = 1\n{text}')[0][name].token_prices == prices


HERE = "[models.a.token_prices]"


NEEDED = 'is needed where billing is "tokens"'
UNUSED = '[models.a] token_prices: needs billing = "tokens" to be charged'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *(
            (THREE.replace("= 2", f"= {value}"), [f"{HERE} text_input: {MONEY}"])
            for value in ("-1", "0.0000001", "true", "'canary'", "nan", "inf", "[1]")
        ),
        (
            TOKENS,
            [f"{HERE} {name}: {NEEDED}" for name in ("text_input", "image_input", "image_output")],
        ),
        (f"{THREE}token_prices.audio = 1", [f"{HERE} audio: no such option"]),
        (
            f"{THREE}token_prices.text_inputs = 1",
            [f"{HERE} text_inputs: no such option; did you mean 'text_input'?"],
        ),
        *(
            (
                f"{THREE}token_prices.cached_{kind} = 4",
                [f"{HERE} cached_{kind}: must not be above {kind}"],
            )
            for kind in ("text_input", "image_input")
        ),
        (f"{TOKENS}token_prices = 5", ["[models.a] token_prices: must be a table"]),
        *(
            (billing + prices, [UNUSED])
            for billing in ("", "billing = 'table'\n")
            for prices in ("token_prices.text_input = 5", HERE, "token_prices = 1")
        ),
        (
            "billing = 'token'\ntoken_prices.text_input = 5",
            ['[models.a] billing: must be "table" or "tokens"'],
        ),
    ],
)
def test_impossible_token_prices(text: str, found: list[str]) -> None:
    assert faults(f"[models.a]\nprices = 1\n{text}") == found
