"""Real usages of the Images API, and the promise that doubt never makes a charge smaller."""

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from gateway.config.models import KNOWN_TOKEN_PRICES, TokenPrices
from gateway.quota.token_usage import MOST_TOKENS, NO_USAGE, Usage, cost, prompt_ceiling, read_usage

GPT_IMAGE_2 = TokenPrices(**KNOWN_TOKEN_PRICES["gpt-image-2"], text_output=30_000_000)
GPT_IMAGE_1_5 = replace(GPT_IMAGE_2, image_output=32_000_000, text_output=10_000_000)

# -- usages of the upstream ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "text_in", "image_in", "details", "prices", "micro"),
    [
        # platform.openai.com/docs/api-reference/images/object: the example of a whole answer.
        (50, 10, 40, {}, GPT_IMAGE_2, 10 * 5 + 40 * 8 + 50 * 30),
        # github.com/BerriAI/litellm, issue 18541: its output was charged as text there.
        (1056, 23, 0, {"output_tokens_details": None}, GPT_IMAGE_1_5, 23 * 5 + 1056 * 32),
        # github.com/BerriAI/litellm, pull request 19515: charged at $0.046 there, not at $0.14.
        (
            *(4599, 169, 0),
            {"output_tokens_details": {"text_tokens": 439, "image_tokens": 4160}},
            *(GPT_IMAGE_1_5, 138_355),
        ),
        # github.com/openai/codex, codex-rs/codex-api/src/endpoint/images.rs: with a picture.
        (
            *(1372, 17, 1457),
            {"output_tokens_details": {"image_tokens": 1372, "text_tokens": 0}},
            *(GPT_IMAGE_2, 17 * 5 + 1457 * 8 + 1372 * 30),
        ),
    ],
)
def test_the_cost_of_real_responses(
    made: int, text_in: int, image_in: int, details: Any, prices: TokenPrices, micro: int
) -> None:
    taken = {"text_tokens": text_in, "image_tokens": image_in}
    usage = read_usage(used(text_in + image_in, made, input_tokens_details=taken, **details))
    assert usage.sound
    assert cost(prices, usage) == micro


# -- reading ------------------------------------------------------------------------------------


def used(taken: int = 100, made: int = 200, **fields: Any) -> dict[str, Any]:
    return {"input_tokens": taken, "output_tokens": made, **fields}


def detailed(**details: Any) -> Usage:
    return read_usage(used(input_tokens_details={"text_tokens": 60, "image_tokens": 40} | details))


def test_tokens_without_details() -> None:
    expected = Usage(unnamed_input=100, image_output=200, sound=True)
    for details in (None, {}, {"text_tokens": None}, {"cached_tokens": 50, "audio_tokens": 1}):
        both: dict[str, Any] = {"input_tokens_details": details, "output_tokens_details": details}
        assert read_usage(used(**both)) == expected
    assert cost(GPT_IMAGE_2, expected) == 100 * 8 + 200 * 30


def test_one_kind_alone() -> None:
    usage = read_usage(
        used(input_tokens_details={"text_tokens": 100}, output_tokens_details={"image_tokens": 200})
    )
    assert usage == Usage(text_input=100, image_output=200, sound=True)
    usage = read_usage(
        used(input_tokens_details={"image_tokens": 100}, output_tokens_details={"text_tokens": 200})
    )
    assert usage == Usage(image_input=100, text_output=200, sound=True)


def test_cached_tokens_by_kind() -> None:
    # Named as in the Realtime API's reference, the one place where OpenAI documents the two kinds.
    usage = detailed(
        cached_tokens=50, cached_tokens_details={"text_tokens": 20, "image_tokens": 30}
    )
    assert usage == Usage(
        text_input=40,
        image_input=10,
        cached_text_input=20,
        cached_image_input=30,
        image_output=200,
        sound=True,
    )
    # 40 x 5 + 10 x 8 + 20 x 1.25 + 30 x 2 + 200 x 30
    assert cost(GPT_IMAGE_2, usage) == 6_365
    assert detailed(cached_tokens_details={"text_tokens": 20, "image_tokens": 30}) == usage


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text_tokens", Usage(text_input=70, cached_text_input=30, image_output=200, sound=True)),
        (
            "image_tokens",
            Usage(image_input=70, cached_image_input=30, image_output=200, sound=True),
        ),
    ],
)
def test_cached_tokens_where_all_input_is_of_one_kind(kind: str, expected: Usage) -> None:
    details = {"text_tokens": 0, "image_tokens": 0, kind: 100, "cached_tokens": 30}
    assert read_usage(used(input_tokens_details=details)) == expected


@pytest.mark.parametrize(
    "cached",
    [
        {"cached_tokens": 0},
        {"cached_tokens": None, "cached_tokens_details": None},
        # It is unclear which kind these are.
        {"cached_tokens": 30},
        # More than the tokens, more than the total, or not counts.
        {"cached_tokens_details": {"text_tokens": 61}},
        {"cached_tokens": 30, "cached_tokens_details": {"text_tokens": 20}},
        {"cached_tokens": "30", "cached_tokens_details": {"text_tokens": 30}},
        {"cached_tokens_details": {"text_tokens": -1}},
        {"cached_tokens_details": [1]},
        {"cached_tokens": 10**9},
    ],
)
def test_cached_tokens_without_a_discount(cached: dict[str, Any]) -> None:
    assert detailed(**cached) == Usage(text_input=60, image_input=40, image_output=200, sound=True)


# -- implausible values -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, {}, [], "x", 5, True, [{"input_tokens": 1}]])
def test_no_usage(value: object) -> None:
    assert read_usage(value) == NO_USAGE
    assert not NO_USAGE.sound
    assert cost(GPT_IMAGE_2, NO_USAGE) == 0


@pytest.mark.parametrize("junk", [None, 0, -1, 1.0, "200", True, [], {}, MOST_TOKENS + 1, 10**30])
def test_an_implausible_total(junk: object) -> None:
    assert read_usage(used() | {"output_tokens": junk}) == Usage(unnamed_input=100)
    assert read_usage(used() | {"input_tokens": junk}) == Usage(image_output=200)


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({"total_tokens": 299}, 200),
        # The rest of the total counts as the most expensive kind.
        ({"total_tokens": 400}, 300),
        ({"total_tokens": "300"}, 200),
        ({"input_tokens_details": {"text_tokens": 101, "image_tokens": -1}}, 200),
        ({"input_tokens_details": [100]}, 200),
        ({"output_tokens_details": {"text_tokens": 200, "image_tokens": 200}}, 200),
        ({"output_tokens_details": {"text_tokens": 200.0}}, 200),
        ({"output_tokens_details": "all"}, 200),
    ],
)
def test_a_contradiction_is_read_as_the_least_at_the_highest_price(
    fields: dict[str, Any], made: int
) -> None:
    assert read_usage(used(**fields)) == Usage(unnamed_input=100, image_output=made)


def test_the_highest_plausible_counts() -> None:
    usage = read_usage(used(MOST_TOKENS // 2, MOST_TOKENS // 2, total_tokens=MOST_TOKENS))
    assert (usage.input_tokens, usage.output_tokens) == (MOST_TOKENS // 2, MOST_TOKENS // 2)
    assert usage.sound


def test_only_a_total() -> None:
    assert read_usage({"total_tokens": 1024}) == Usage(image_output=1024)
    assert read_usage({"prompt_tokens": 22, "total_tokens": 1394}) == Usage(
        unnamed_input=22, image_output=1372
    )


# -- the names of chat completions --------------------------------------------------------------


def chat(taken: Any = 100, made: Any = 200, **fields: Any) -> dict[str, Any]:
    return {"prompt_tokens": taken, "completion_tokens": made, **fields}


@pytest.mark.parametrize(
    "value",
    [
        chat(total_tokens=300),
        chat(total_tokens=0),
        # As one-api and its heirs send it: both names, zeros under one of them.
        chat(total_tokens=300, input_tokens=0, output_tokens=0, input_tokens_details=None),
        chat(0, 0, total_tokens=300, input_tokens=100, output_tokens=200),
        chat(100, 200, input_tokens=100, output_tokens=200),
        {"input_tokens": 100, "completion_tokens": 200},
        chat(
            prompt_tokens_details={"cached_tokens": 50, "text_tokens": 0, "image_tokens": 0},
            completion_tokens_details={"reasoning_tokens": 0, "text_tokens": 0},
        ),
    ],
)
def test_usage_under_other_names(value: dict[str, Any]) -> None:
    assert read_usage(value) == Usage(unnamed_input=100, image_output=200, sound=True)


def test_details_under_other_names() -> None:
    given, made = {"text_tokens": 60, "image_tokens": 40}, {"text_tokens": 20, "image_tokens": 180}
    cached = {"cached_tokens_details": {"text_tokens": 10}}
    expected = Usage(
        text_input=50,
        image_input=40,
        cached_text_input=10,
        image_output=180,
        text_output=20,
        sound=True,
    )
    details: dict[str, Any] = {
        "prompt_tokens_details": given | cached,
        "completion_tokens_details": made,
    }
    zeros = {"text_tokens": 0, "image_tokens": 0}
    assert read_usage(chat(**details)) == expected
    for empty in (None, {}, zeros):
        own: dict[str, Any] = {"input_tokens_details": empty, "output_tokens_details": empty}
        assert read_usage(chat(**details, **own)) == expected


@pytest.mark.parametrize(
    ("value", "taken", "made"),
    [
        # Two counts of the same tokens: the higher one is the least that was bought.
        (chat(input_tokens=99), 100, 200),
        (chat(output_tokens=201), 100, 201),
        (chat(input_tokens="100"), 100, 200),
        (chat(total_tokens=301), 100, 201),
        (chat("22", 200), 0, 200),
        (chat(completion_tokens_details={"image_tokens": 199}), 100, 200),
        (chat(prompt_tokens_details="all"), 100, 200),
    ],
)
def test_a_contradiction_under_other_names(value: dict[str, Any], taken: int, made: int) -> None:
    assert read_usage(value) == Usage(unnamed_input=taken, image_output=made)


# -- in general ---------------------------------------------------------------------------------

PRICE = st.integers(0, 10**9)
PRICES = st.builds(TokenPrices, **dict.fromkeys(TokenPrices.__struct_fields__, PRICE))
"""Micro-dollars per million tokens, mostly fractions of a micro-dollar per token."""

KINDS = [kind for kind in Usage.__struct_fields__ if kind != "sound"]
COUNT = st.integers(0, MOST_TOKENS)
USAGES = st.builds(Usage, sound=st.booleans(), **dict.fromkeys(KINDS, COUNT))


def priced(prices: TokenPrices, usage: Usage) -> Fraction:
    """Return the cost in dollars."""
    each = asdict(prices) | {"unnamed_input": max(prices.text_input, prices.image_input)}
    return sum((Fraction(each[kind], 10**12) * getattr(usage, kind) for kind in KINDS), Fraction(0))


@given(PRICES, USAGES)
def test_exact_and_rounded_up_once(prices: TokenPrices, usage: Usage) -> None:
    micro = cost(prices, usage)
    assert type(micro) is int
    assert micro == ceil(priced(prices, usage) * 10**6)


@given(PRICES, st.text(max_size=200))
def test_a_prompt_is_held_at_a_token_for_each_byte(prices: TokenPrices, prompt: str) -> None:
    held = prompt_ceiling(prices, prompt)
    assert held == cost(prices, Usage(text_input=len(prompt.encode())))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.just(10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
PARTS = st.fixed_dictionaries(
    {}, optional={name: st.integers(0, 200) | JUNK for name in ("text_tokens", "image_tokens")}
)
DETAILS = st.builds(
    lambda parts, cached: {**parts, **cached},
    PARTS,
    st.fixed_dictionaries(
        {}, optional={"cached_tokens": JUNK, "cached_tokens_details": PARTS | JUNK}
    ),
)
TOTAL = st.sampled_from([50, 100, 200]) | JUNK


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "input_tokens": TOTAL,
            "output_tokens": TOTAL,
            "total_tokens": TOTAL,
            "input_tokens_details": DETAILS | JUNK,
            "output_tokens_details": DETAILS | JUNK,
            "prompt_tokens": TOTAL,
            "completion_tokens": TOTAL,
            "prompt_tokens_details": DETAILS | JUNK,
            "completion_tokens_details": DETAILS | JUNK,
        },
    )
    | JUNK
)
def test_any_value_is_read_as_exactly_its_counts(value: Any) -> None:
    usage = read_usage(value)
    counts = [getattr(usage, kind) for kind in KINDS]
    assert all(type(count) is int and 0 <= count <= MOST_TOKENS for count in counts)
    if usage.sound:
        made = usage.image_output + usage.text_output
        for count, names in (
            (sum(counts) - made, ("input_tokens", "prompt_tokens")),
            (made, ("output_tokens", "completion_tokens")),
            (sum(counts), ("total_tokens",)),
        ):
            assert {value.get(name) for name in names} <= {None, 0, count}


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_details_only_ever_lower_a_charge(taken: int, made: int, data: st.DataObject) -> None:
    text = data.draw(st.integers(0, taken))
    details = {"text_tokens": text, "image_tokens": taken - text}
    details["cached_tokens"] = data.draw(st.integers(0, taken))
    usage = read_usage(used(taken, made, input_tokens_details=details))
    assert usage.sound
    assert cost(GPT_IMAGE_2, usage) <= cost(GPT_IMAGE_2, read_usage(used(taken, made)))
