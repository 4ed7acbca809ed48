"""Prices, and the promise that no charge is above its ceiling.

Tokens are the exception: the usage of a response is charged in full.
"""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.config.models import (
    GPT_IMAGE_2,
    KNOWN_TOKEN_PRICES,
    Model,
    PriceTable,
    SizeRules,
    TokenPrices,
)
from gateway.core.model import ImageRequest
from gateway.quota.image_response import GivenImage, ImageResponse
from gateway.quota.pricing import ceiling, charge, falls_back
from gateway.quota.token_usage import NO_USAGE, Usage, cost, read_usage

LARGEST = 8_294_400
"""The pixels of gpt-image-2's largest picture: 3840x2160."""


def asked(
    size: str = "1024x1024",
    quality: str | None = "high",
    n: int = 1,
    prompt: str = "x",
    partial: int = 0,
) -> ImageRequest:
    return ImageRequest(
        model="gpt-image-2",
        prompt=prompt,
        size=size,
        n=n,
        quality=quality,
        body={"prompt": prompt},
        partial_images=partial,
    )


def came(
    images: int, size: str | None = None, quality: str | None = None, usage: Usage = NO_USAGE
) -> ImageResponse:
    return ImageResponse((GivenImage("", has_base64=True),) * images, size, quality, usage)


def priced(flat: int | None = None, **cells: int | Mapping[str, int]) -> Model:
    """Return a model with prices for qualities, or for sizes of a quality."""
    table: dict[tuple[str, str | None], int] = {}
    for quality, price in cells.items():
        if isinstance(price, int):
            table[quality, None] = price
        else:
            table |= {(quality, size): amount for size, amount in price.items()}
    return Model(name="gpt-image-2", prices=PriceTable(flat=flat, cells=table))


# -- the ceiling of a request -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quality", "size", "price"),
    [
        # The cells themselves. The larger image is the cheaper one.
        ("low", "1024x1024", 6_000),
        ("medium", "1024x1024", 53_000),
        ("high", "1024x1024", 211_000),
        ("high", "1024x1536", 165_000),
        # Other sizes: the highest cell of the quality by pixels, rounded up, never below it.
        ("low", "1024x1536", 9_000),
        ("low", "1040x1024", 6_094),
        ("high", "2048x2048", 844_000),
        # Other qualities: the highest cell of all.
        ("hd", "1024x1024", 211_000),
        ("hd", "1024x1536", 316_500),
        # auto: the highest quality, the largest size.
        ("auto", "1024x1024", 211_000),
        (None, "1024x1024", 211_000),
        ("auto", "1024x1536", 165_000),
        ("low", "auto", -(-6_000 * LARGEST // 2**20)),
        (None, "auto", -(-211_000 * LARGEST // 2**20)),
    ],
)
def test_the_known_prices(quality: str | None, size: str, price: int) -> None:
    assert ceiling(GPT_IMAGE_2, asked(size, quality)) == price
    assert ceiling(GPT_IMAGE_2, asked(size, quality, n=7)) == 7 * price
    assert charge(GPT_IMAGE_2, asked(size, quality), came(3)) == 3 * price


FLAT = priced(40_000)
BY_QUALITY = priced(low=5_000, medium={"1024x1024": 50_000})
MIXED = Model(
    name="gpt-image-2",
    prices=PriceTable(
        flat=10_000,
        cells={("low", None): 5_000, ("low", "1024x1024"): 7_000, ("high", "1024x1024"): 9_000},
    ),
)
SMALL = Model(
    name="small",
    prices=PriceTable(cells={("low", "512x512"): 1_000}),
    sizes=SizeRules(min_pixels=256, max_pixels=512 * 512, max_edge=512),
)


@pytest.mark.parametrize(
    ("model", "size", "quality", "price"),
    [
        # A flat price covers everything.
        *((FLAT, "2048x2048", quality, 40_000) for quality in ("low", "hd", "auto", None)),
        *((FLAT, size, "low", 40_000) for size in ("1024x1024", "auto")),
        # A price for a quality covers its sizes. One without a price costs the highest of all.
        (BY_QUALITY, "2048x2048", "low", 5_000),
        (BY_QUALITY, "auto", "low", 5_000),
        (BY_QUALITY, "2048x2048", "high", 200_000),
        (BY_QUALITY, "1024x1024", "auto", 50_000),
        # An exact cell comes before a wider price.
        (MIXED, "1024x1024", "low", 7_000),
        (MIXED, "2048x2048", "low", 5_000),
        (MIXED, "auto", "low", 7_000),
        (MIXED, "1024x1024", "high", 9_000),
        (MIXED, "2048x2048", "high", 10_000),
        (MIXED, "1024x1024", "auto", 10_000),
        # A small maximum costs no less than a cell.
        *((SMALL, size, "low", 1_000) for size in ("auto", "256x256")),
    ],
)
def test_the_ceiling_of_other_tables(
    model: Model, size: str, quality: str | None, price: int
) -> None:
    assert ceiling(model, asked(size, quality)) == price


# -- the charge for a response ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked_quality", "asked_size", "quality", "size", "price"),
    [
        # The response decides what the request left open.
        ("auto", "1024x1024", "low", "1024x1024", 6_000),
        (None, "1024x1024", "medium", "1024x1024", 53_000),
        (None, "auto", "low", "1024x1536", 9_000),
        ("high", "auto", "high", "1024x1536", 165_000),
        ("low", "auto", None, "1008x1024", 6_000),
        # The request's own choice stays.
        ("low", "1024x1024", "high", "1024x1536", 6_000),
        ("hd", "1024x1024", "low", None, 211_000),
        ("auto", "1024x1024", "low", "1024x1536", 6_000),
        # A missing or unknown value leaves the ceiling.
        ("auto", "1024x1024", "auto", None, 211_000),
        ("auto", "1024x1024", "", None, 211_000),
        ("low", "auto", "low", None, 47_461),
        ("low", "auto", "low", "huge", 47_461),
        ("low", "auto", "low", "9999x9999", 47_461),
    ],
)
def test_settling(
    asked_quality: str | None, asked_size: str, quality: str | None, size: str | None, price: int
) -> None:
    request = asked(asked_size, asked_quality)
    assert charge(GPT_IMAGE_2, request, came(1, size, quality)) == price


def test_the_largest_size_of_a_response_has_its_own_price() -> None:
    cells: dict[tuple[str, str | None], int] = {
        ("low", "512x512"): 1_000,
        ("low", "256x256"): 3_000,
    }
    model = replace(SMALL, prices=PriceTable(cells=cells))
    assert ceiling(model, asked("auto", "low")) == 3_000
    assert charge(model, asked("auto", "low"), came(1, "512x512")) == 1_000


def test_more_images_than_asked_for_are_charged_in_full() -> None:
    assert charge(GPT_IMAGE_2, asked(n=1), came(3)) == 3 * 211_000
    assert charge(GPT_IMAGE_2, asked(n=3), came(0)) == 0


QUALITIES = st.sampled_from([None, "auto", "low", "medium", "high", "hd", ""])
EDGES = st.sampled_from([480, 512, 1024, 1040, 1536, 2048, 2880, 3840])
SIZES = st.one_of(st.just("auto"), st.builds("{}x{}".format, EDGES, EDGES))
CELLS = st.dictionaries(
    st.tuples(
        st.sampled_from(["low", "medium", "high", "ultra"]),
        st.none() | SIZES.filter(lambda size: size != "auto"),
    ),
    st.integers(0, 10**9),
)
TABLES = st.builds(
    lambda flat, cells: PriceTable(flat=flat, cells=cells), st.none() | st.integers(0, 10**9), CELLS
).filter(lambda table: table.flat is not None or bool(table.cells))
MODELS = st.builds(
    lambda prices, most: Model(name="m", prices=prices, sizes=SizeRules(max_pixels=most)),
    TABLES,
    st.sampled_from([512 * 512, 2**20, LARGEST, 10_000_000]),
)


@given(
    MODELS,
    QUALITIES,
    SIZES,
    st.integers(1, 10),
    st.data(),
    st.none() | SIZES | st.text(max_size=9),
    st.sampled_from([None, "auto", "low", "medium", "high", "ultra", "hd"]) | st.text(max_size=4),
)
def test_no_charge_is_above_its_ceiling(
    model: Model,
    asked_quality: str | None,
    asked_size: str,
    n: int,
    data: st.DataObject,
    size: str | None,
    quality: str | None,
) -> None:
    request = asked(asked_size, asked_quality, n)
    held = ceiling(model, request)
    delivered = data.draw(st.integers(0, n))
    cost = charge(model, request, came(delivered, size, quality))
    assert type(cost) is type(held) is int
    assert 0 <= cost <= held
    assert charge(model, request, came(n)) == held
    assert charge(model, request, came(n + 1, size, quality)) >= cost


# -- tokens -------------------------------------------------------------------------------------

TOKEN_PRICES = TokenPrices(**KNOWN_TOKEN_PRICES["gpt-image-2"], text_output=30_000_000)
BY_TOKENS = replace(GPT_IMAGE_2, billing="tokens", token_prices=TOKEN_PRICES)


def used(text: int, made: int, **fields: int) -> Usage:
    details = {"text_tokens": text, "image_tokens": 0}
    return read_usage(
        {"input_tokens": text, "output_tokens": made, "input_tokens_details": details, **fields}
    )


def test_the_ceiling_includes_the_prompt() -> None:
    assert ceiling(BY_TOKENS, asked(n=3)) == 3 * 211_000 + 5
    assert ceiling(BY_TOKENS, asked("auto", "low", prompt="é€")) == 47_461 + 5 * 5


def test_the_ceiling_includes_the_partial_images_of_each_picture() -> None:
    request = asked(n=2, partial=3)
    assert ceiling(BY_TOKENS, request) == 2 * 211_000 + 5 + 2 * 3 * 100 * 30
    assert charge(BY_TOKENS, request, came(2)) == ceiling(BY_TOKENS, request)
    assert ceiling(GPT_IMAGE_2, request) == 2 * 211_000
    # Half a micro-dollar is one.
    cheap = replace(BY_TOKENS, token_prices=replace(TOKEN_PRICES, text_input=100_000))
    assert ceiling(cheap, asked(prompt="12345")) == 211_001
    assert ceiling(cheap, asked(prompt="12345678901")) == 211_002


@pytest.mark.parametrize(
    ("request_", "answered", "micro"),
    [
        # Only the usage counts, not the number of images, their size or quality.
        (asked(n=4), came(3, usage=used(12, 3_168)), 12 * 5 + 3_168 * 30),
        (asked("auto", None), came(1, "1024x1536", "low", used(12, 408)), 12 * 5 + 408 * 30),
        (asked(n=1), came(2, usage=used(12, 272)), 12 * 5 + 272 * 30),
        # Above the hold too.
        (asked(quality="low"), came(1, usage=used(1, 4_160)), 5 + 4_160 * 30),
        # No usage: the table, plus the ceiling of the prompt.
        (asked(n=4), came(3), 3 * 211_000 + 5),
        (asked("auto", None), came(1, "1024x1536", "low"), 9_000 + 5),
        # An implausible usage: the same, or the least that it shows.
        (asked(), came(1, usage=used(0, 0)), 211_005),
        (asked(), came(1, usage=used(12, 3_168, total_tokens=9)), 211_005),
        (asked(quality="low"), came(1, usage=used(12, 3_168, total_tokens=9)), 12 * 8 + 95_040),
    ],
)
def test_charging_tokens(request_: ImageRequest, answered: ImageResponse, micro: int) -> None:
    assert charge(BY_TOKENS, request_, answered) == micro


def test_without_a_sound_usage_a_model_billed_by_tokens_falls_back_to_the_table() -> None:
    assert falls_back(BY_TOKENS, came(1))
    assert not falls_back(BY_TOKENS, came(1, usage=used(12, 408)))
    assert not falls_back(GPT_IMAGE_2, came(1))


def test_billing_by_table_ignores_tokens() -> None:
    assert ceiling(GPT_IMAGE_2, asked(prompt="x" * 32_000)) == 211_000
    assert charge(GPT_IMAGE_2, asked(), came(1, usage=used(12, 9_000))) == 211_000


@given(MODELS, QUALITIES, SIZES, st.integers(1, 10), st.text(max_size=40), st.data())
def test_no_reasonable_usage_is_above_its_ceiling(
    model: Model, quality: str | None, size: str, n: int, prompt: str, data: st.DataObject
) -> None:
    per_million = st.integers(0, 10**8)
    prices = TokenPrices(**{kind: data.draw(per_million) for kind in TokenPrices.__struct_fields__})
    request = asked(size, quality, n, prompt)
    by_table = ceiling(model, request)
    # Reasonable: the prompt has no more tokens than bytes, the images cost what the table says.
    text = data.draw(st.integers(0, len(prompt.encode())))
    most = by_table * 1_000_000 // prices.image_output if prices.image_output else 10**8
    made = data.draw(st.integers(0, min(most, 10**8)))
    usage = Usage(text_input=text, image_output=made, sound=data.draw(st.booleans()))
    tokens = replace(model, billing="tokens", token_prices=prices)
    charged = charge(tokens, request, came(n, usage=usage))
    assert type(charged) is int
    assert cost(prices, usage) <= charged <= ceiling(tokens, request)


@given(MODELS, QUALITIES, SIZES, st.integers(1, 10), st.integers(0, 10**8), st.integers(0, 10**8))
def test_without_a_sound_usage_no_less_than_the_table(
    model: Model, quality: str | None, size: str, delivered: int, taken: int, made: int
) -> None:
    tokens = replace(model, billing="tokens", token_prices=TOKEN_PRICES)
    answered = came(delivered, usage=Usage(unnamed_input=taken, image_output=made))
    charged = charge(tokens, asked(size, quality, delivered), answered)
    assert charged >= charge(model, asked(size, quality, delivered), answered)
    assert charged >= taken * 8 + made * 30
