"""Billing by tokens: reads the `usage` of a response, and computes its cost.

Doubt never makes a charge smaller:

- A count is an integer from 0 to MOST_TOKENS. Input and output are at least one token each.
- Output without details is image output, which costs far more. Input without details costs the
  higher of the two input prices.
- Cached tokens are part of the text and image tokens, and cost less if it is clear which of them
  they are. A count of them that does not fit gives no discount.
- A usage without a total, or with a contradiction, is not sound. Its totals are then the least that
  was bought, at the highest prices. The caller charges by the price table if that is more.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.config.models import TokenPrices

MOST_TOKENS = 100_000_000
"""The highest plausible count: a thousand of the largest images take about half of it."""

_PRICED = 1_000_000
"""Prices are per so many tokens."""


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens by kind. No token counts twice: `text_input` is without the cached ones.

    `unnamed_input` is input without details. `sound` means that this is all that was bought, and
    not only the least of it.
    """

    text_input: int = 0
    image_input: int = 0
    cached_text_input: int = 0
    cached_image_input: int = 0
    unnamed_input: int = 0
    image_output: int = 0
    text_output: int = 0
    sound: bool = False

    @property
    def input_tokens(self) -> int:
        """All input tokens."""
        cached = self.cached_text_input + self.cached_image_input
        return self.text_input + self.image_input + cached + self.unnamed_input

    @property
    def output_tokens(self) -> int:
        """All output tokens."""
        return self.image_output + self.text_output


NO_USAGE = Usage()
"""The usage of a response that has none."""


def cost(prices: TokenPrices, usage: Usage) -> int:
    """Return the cost in micro-dollars: exact over all tokens, then rounded up once."""
    return _micro(
        usage.text_input * prices.text_input
        + usage.image_input * prices.image_input
        + usage.cached_text_input * prices.cached_text_input
        + usage.cached_image_input * prices.cached_image_input
        + usage.unnamed_input * max(prices.text_input, prices.image_input)
        + usage.image_output * prices.image_output
        + usage.text_output * prices.text_output
    )


def prompt_ceiling(prices: TokenPrices, prompt: str) -> int:
    """Return the most that a prompt can cost: no token is shorter than a byte."""
    return _micro(len(prompt.encode()) * prices.text_input)


def _micro(exact: int) -> int:
    return -(-exact // _PRICED)


# -- reading ------------------------------------------------------------------------------------


def read_usage(value: object) -> Usage:
    """Read the `usage` of a response, which may be any JSON value."""
    fields = value if isinstance(value, dict) else {}
    try:
        return _sound(fields)
    except ValueError:
        return _least(fields)


def _sound(fields: Mapping[str, Any]) -> Usage:
    """Return all that was bought.

    Raises ValueError if counts are missing, implausible or do not add up.
    """
    taken, made = _count(fields, "input_tokens"), _count(fields, "output_tokens")
    both = taken + made
    if not taken or not made or _count(fields, "total_tokens", both) != both:
        raise ValueError("totals are missing or do not add up")
    text, image = _split(made, fields.get("output_tokens_details")) or (0, made)
    of_input = _input(taken, fields.get("input_tokens_details"))
    return Usage(text_output=text, image_output=image, **of_input, sound=True)


def _least(fields: Mapping[str, Any]) -> Usage:
    """Return the least that was bought, from the totals that are plausible."""
    totals = []
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        try:
            totals.append(_count(fields, name))
        except ValueError:
            totals.append(0)
    taken, made, both = totals
    return Usage(unnamed_input=taken, image_output=max(made, both - taken))


def _input(taken: int, details: Any) -> dict[str, int]:
    split = _split(taken, details)
    if split is None:
        return {"unnamed_input": taken}
    text, image = split
    cached_text, cached_image = _cached(text, image, details)
    return {
        "text_input": text - cached_text,
        "image_input": image - cached_image,
        "cached_text_input": cached_text,
        "cached_image_input": cached_image,
    }


def _split(whole: int, details: Any) -> tuple[int, int] | None:
    """Return the text and image tokens of a total, or None without details."""
    if details is None:
        return None
    text, image = _count(details, "text_tokens"), _count(details, "image_tokens")
    if details.get("text_tokens") is None and details.get("image_tokens") is None:
        return None
    if text + image != whole:
        raise ValueError("details do not add up")
    return text, image


def _cached(text: int, image: int, details: Any) -> tuple[int, int]:
    """Return how many text and image tokens were cached: none if that is unclear."""
    try:
        cached = _named_cached(text, image, details)
    except ValueError:
        return 0, 0
    return cached if cached[0] <= text and cached[1] <= image else (0, 0)


def _named_cached(text: int, image: int, details: Any) -> tuple[int, int]:
    parts = details.get("cached_tokens_details")
    if parts is not None:
        cached = _count(parts, "text_tokens"), _count(parts, "image_tokens")
        if _count(details, "cached_tokens", sum(cached)) != sum(cached):
            raise ValueError("cached tokens do not add up")
        return cached
    count = _count(details, "cached_tokens")
    if image and text:
        return 0, 0
    return (0, count) if image else (count, 0)


def _count(fields: object, name: str, missing: int = 0) -> int:
    """Return a count of tokens, or `missing` without one. Raises ValueError for other values."""
    if not isinstance(fields, dict):
        raise ValueError("not an object of counts")
    value = fields.get(name)
    if value is None:
        return missing
    if type(value) is not int or not 0 <= value <= MOST_TOKENS:  # a bool is an int too
        raise ValueError("not a count of tokens")
    return value
