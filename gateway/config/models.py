"""What the gateway sells: models, the sizes they draw, and what an image costs.

All of it comes from the configuration (`gateway.config.load`). Texts about a size never repeat
the size itself: a client wrote it.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.core.model import ImageRequest

AUTO = "auto"
"""The size that leaves the choice to the upstream."""

Quality = Literal["low", "medium", "high", "auto"]

QUALITIES: tuple[Quality, ...] = ("low", "medium", "high", "auto")
"""Every quality that a team's policy or a price may name."""

Billing = Literal["table", "tokens"]
"""What an answer is settled by: the table of prices, or the tokens that it says it took."""

_SIZE = re.compile(r"[1-9][0-9]{2,4}x[1-9][0-9]{2,4}")


def quality_label(quality: str | None) -> str:
    """A request's quality as it is recorded: "auto" for None, "other" for an unknown word.

    A client may write anything of any length there; the upstream is the judge of it.
    """
    if quality is None:
        return AUTO
    return quality if quality in QUALITIES else "other"


def pixels(size: str) -> int:
    """The pixels of a size written as `WxH`.

    Raises ValueError for anything else, "auto" included: its pixels are not known beforehand.
    """
    width, height = edges(size)
    return width * height


def is_size(text: str) -> bool:
    """True for `WxH`, whether or not any model draws it."""
    return _SIZE.fullmatch(text) is not None


def edges(size: str) -> tuple[int, int]:
    """Width and height of a size written as `WxH`. Raises ValueError for anything else."""
    if not is_size(size):
        raise ValueError("a size is written as WxH")
    width, _, height = size.partition("x")
    return int(width), int(height)


SizeText = Annotated[
    str, Meta(pattern=rf"\A{_SIZE.pattern}\Z", description="a size such as 1024x1024")
]
Edge = Annotated[int, Meta(ge=1, le=99_999)]
Area = Annotated[int, Meta(ge=1, le=99_999**2)]


class SizeRules(Struct, frozen=True, kw_only=True):
    """Which sizes a model draws. `allowed`, where set, is a closed list on top of the rules.

    Edges are in pixels; `max_ratio` bounds the longer edge over the shorter one.
    """

    auto: bool = True
    multiple_of: Edge = 16
    max_ratio: Annotated[float, Meta(ge=1, le=1_000)] = 3.0
    max_edge: Edge = 3840
    min_pixels: Area = 655_360
    max_pixels: Area = 8_294_400
    allowed: Annotated[tuple[SizeText, ...], Meta(min_length=1)] | None = None

    def problem(self, size: str) -> str | None:
        """Why this size is impossible, or None where it can be drawn."""
        if size == AUTO:
            return None if self.auto else "size must be WxH: this model does not take 'auto'."
        if not is_size(size):
            return self._shape_text
        if self.allowed is not None and size not in self.allowed:
            return "size must be one of those that the configuration lists for this model."
        return self._edges_problem(*edges(size))

    @property
    def _shape_text(self) -> str:
        choice = "'auto' or WxH" if self.auto else "WxH"
        return f"size must be {choice}, such as 1024x1024."

    def _edges_problem(self, width: int, height: int) -> str | None:
        if width % self.multiple_of or height % self.multiple_of:
            return f"size must have both edges divisible by {self.multiple_of}."
        if max(width, height) > self.max_edge:
            return f"size must have no edge above {self.max_edge} pixels."
        if max(width, height) > self.max_ratio * min(width, height):
            return f"size must have a ratio from 1:{self.max_ratio:g} to {self.max_ratio:g}:1."
        if not self.min_pixels <= width * height <= self.max_pixels:
            return f"size must have {self.min_pixels} to {self.max_pixels} pixels."
        return None

    def pixels(self, size: str) -> int:
        """The pixels of a size. "auto" counts as the largest picture that the rules admit."""
        return self.max_pixels if size == AUTO else pixels(size)


class PriceTable(Struct, frozen=True, kw_only=True):
    """Micro-dollars an image.

    `flat` holds for everything that no cell names. A cell is keyed by quality and size; None as
    the size means every size of that quality that has no cell of its own.
    """

    flat: int | None = None
    cells: Mapping[tuple[str, str | None], int] = {}


class TokenPrices(Struct, frozen=True, kw_only=True):
    """Micro-dollars per million tokens, each kind of them."""

    text_input: int
    image_input: int
    cached_text_input: int
    cached_image_input: int
    image_output: int
    text_output: int


class Model(Struct, frozen=True, kw_only=True):
    """A model as the gateway offers it. `default_n` and `default_size` keep its own rules.

    `token_prices` are there where `billing` is "tokens", and only there.
    """

    name: str
    prices: PriceTable
    sizes: SizeRules = SizeRules()
    max_n: Annotated[int, Meta(ge=1, le=1_000)] = 10
    max_prompt_chars: Annotated[int, Meta(ge=1, le=10_000_000)] = 32_000
    default_n: Annotated[int, Meta(ge=1, le=1_000)] = 1
    default_size: Annotated[
        str, Meta(pattern=rf"\A(auto|{_SIZE.pattern})\Z", description="'auto' or WxH")
    ] = "1024x1024"
    billing: Billing = "table"
    token_prices: TokenPrices | None = None


GPT_IMAGE_2 = Model(
    name="gpt-image-2",
    prices=PriceTable(
        cells={
            ("low", "1024x1024"): 6_000,
            ("medium", "1024x1024"): 53_000,
            ("high", "1024x1024"): 211_000,
            ("high", "1024x1536"): 165_000,
            ("high", "1536x1024"): 165_000,
        }
    ),
)
"""The model that applies where the configuration has no [models] at all."""

KNOWN_TOKEN_PRICES: Mapping[str, Mapping[str, int]] = {
    GPT_IMAGE_2.name: {
        "text_input": 5_000_000,
        "image_input": 8_000_000,
        "cached_text_input": 1_250_000,
        "cached_image_input": 2_000_000,
        "image_output": 30_000_000,
    }
}
"""The token prices that apply to a model by name where the configuration leaves them out."""


def closed_labels(request: ImageRequest, model: Model) -> tuple[str, str]:
    """Size and quality as labels: those that the configuration names, "other" for the rest."""
    size = request.size
    named = size in (AUTO, model.default_size) or size in (model.sizes.allowed or ())
    if not named and all(size != priced for _, priced in model.prices.cells):
        size = "other"
    return size, quality_label(request.quality)
