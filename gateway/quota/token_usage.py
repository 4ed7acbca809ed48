"""Billing by tokens: reads the `usage` of a response, and computes its cost.

Input and output have two names: those of the Images API (`input_tokens`, `output_tokens`) and those
of chat completions (`prompt_tokens`, `completion_tokens`), which many compatible servers send, some
of them with zeros under the other names. `total_tokens` has the same name in both.

Doubt never makes a charge smaller:

- A count is an integer from 0 to MOST_TOKENS. Input and output are at least one token each.
- Output without details is image output, which costs far more. Input without details costs the
  higher of the two input prices.
- Cached tokens are part of the text and image tokens, and cost less if it is clear which of them
  they are. A count of them that does not fit gives no discount.
- A usage without a total, or with a contradiction, is not sound. Its totals are then the least that
  was bought, at the highest prices. The caller charges by the price table if that is more.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from gateway.config.models import TokenPrices

MOST_TOKENS = 100_000_000
"""The highest plausible count: a thousand of the largest images take about half of it."""

PARTIAL_TOKENS = 100
"""Output tokens of each partial image of a stream, as OpenAI bills them."""

_INPUT = ("input_tokens", "prompt_tokens")
_OUTPUT = ("output_tokens", "completion_tokens")
_TOTAL = ("total_tokens",)
"""The names of each total. The names of its details follow from them."""

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


def partial_ceiling(prices: TokenPrices, images: int) -> int:
    """Return the most that so many partial images can cost."""
    return _micro(images * PARTIAL_TOKENS * prices.image_output)


def _micro(exact: int) -> int:
    return -(-exact // _PRICED)


# -- reading ------------------------------------------------------------------------------------


def read_usage(value: object) -> Usage:
    """Read the `usage` of a response, which may be any JSON value."""
    try:
        return _sound(value)
    except ValueError:
        return _least(value)


def _sound(fields: Any) -> Usage:
    """Return all that was bought.

    Raises ValueError if counts are missing, implausible or do not add up.
    """
    taken, made = _total(fields, _INPUT), _total(fields, _OUTPUT)
    both = taken + made
    if not taken or not made or _total(fields, _TOTAL) not in (0, both):
        raise ValueError("totals are missing or do not add up")
    (text, image), _ = _details(fields, _OUTPUT, made) or ((0, made), None)
    return Usage(text_output=text, image_output=image, **_input(fields, taken), sound=True)


def _least(fields: Any) -> Usage:
    """Return the least that was bought, from the totals that are plausible."""
    taken, made, both = (
        max(_plausible(fields, name) for name in names) for names in (_INPUT, _OUTPUT, _TOTAL)
    )
    return Usage(unnamed_input=taken, image_output=max(made, both - taken))


def _total(fields: Any, names: Sequence[str]) -> int:
    """Return the total that has one of these names, or 0 without one."""
    counts = {_count(fields, name) for name in names} - {0}
    if len(counts) > 1:
        raise ValueError("two totals of the same tokens")
    return max(counts, default=0)


def _plausible(fields: Any, name: str) -> int:
    try:
        return _count(fields, name)
    except ValueError:
        return 0


def _input(fields: Any, taken: int) -> dict[str, int]:
    found = _details(fields, _INPUT, taken)
    if found is None:
        return {"unnamed_input": taken}
    (text, image), details = found
    cached_text, cached_image = _cached(text, image, details)
    return {
        "text_input": text - cached_text,
        "image_input": image - cached_image,
        "cached_text_input": cached_text,
        "cached_image_input": cached_image,
    }


def _details(
    fields: Any, names: Sequence[str], whole: int
) -> tuple[tuple[int, int], dict[str, Any]] | None:
    """Return the text and image tokens of a total, and their details. None without details.

    Details that only have zeros are none.
    """
    for name in names:
        details = fields.get(f"{name}_details")
        if details is None:
            continue
        text, image = _count(details, "text_tokens"), _count(details, "image_tokens")
        if text + image == whole:
            return (text, image), details
        if text or image:
            raise ValueError("details do not add up")
    return None


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
