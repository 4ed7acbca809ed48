"""Models, the sizes that they draw, and the prices of an image.

All of it comes from the configuration (`gateway.config.load`). Texts about a size never repeat
the size, because a client wrote it.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gateway.core.bounds import MOST_NAMES
from gateway.core.model import ImageRequest

AUTO = "auto"
"""The size that lets the upstream choose."""

Quality = Literal["low", "medium", "high", "auto"]

QUALITIES: tuple[Quality, ...] = ("low", "medium", "high", "auto")
"""The qualities that a team's policy may name."""

OUR_FIELDS = frozenset(
    {"model", "prompt", "size", "n", "quality", "stream", "partial_images", "response_format"}
)
"""The fields of a request that the gateway reads, and the upstream reads again."""

UPSTREAM_DEFAULTS: Mapping[str, bool | int | str] = {
    "quality": "auto",
    "background": "auto",
    "moderation": "auto",
    "output_format": "png",
    "output_compression": 100,
}
"""Fields of a request, with the values that the upstream documents as their defaults."""

Billing = Literal["table", "tokens"]
"""Settle an answer by the table of prices, or by the tokens that the answer reports."""

_SIZE = re.compile(r"[1-9][0-9]{2,4}x[1-9][0-9]{2,4}")


def quality_label(quality: str | None) -> str:
    """Return a request's quality for records and metrics: "other" for an unknown word.

    A client may send any text of any length, and only the upstream decides whether it is valid.
    """
    if quality is None:
        return AUTO
    return quality if quality in QUALITIES else "other"


def pixels(size: str) -> int:
    """Return the pixels of a size written as `WxH`.

    Raises ValueError for anything else, also for "auto": its pixels are not known in advance.
    """
    width, height = edges(size)
    return width * height


def is_size(text: str) -> bool:
    """Whether the text is `WxH`. A model may still refuse the size."""
    return _SIZE.fullmatch(text) is not None


def edges(size: str) -> tuple[int, int]:
    """Return width and height of a size written as `WxH`. Raises ValueError for anything else."""
    if not is_size(size):
        raise ValueError("a size must be WxH")
    width, _, height = size.partition("x")
    return int(width), int(height)


SizeText = Annotated[
    str, Meta(pattern=rf"\A{_SIZE.pattern}\Z", description="a size such as 1024x1024")
]
Edge = Annotated[int, Meta(ge=1, le=99_999)]
Area = Annotated[int, Meta(ge=1, le=99_999**2)]


class SizeRules(Struct, frozen=True, kw_only=True):
    """The sizes that the model draws. Any other gets 400, before it costs anything.

    Options:
        auto: true allows the size "auto", which leaves the choice to the upstream.
        multiple_of: Both edges must be divisible by this.
        max_ratio: Maximum ratio of the longer edge to the shorter edge.
        max_edge: Maximum length of an edge in pixels.
        min_pixels: Minimum pixels, width times height.
        max_pixels: Maximum pixels, width times height.
        allowed: Only these sizes, on top of the other rules.
    """

    auto: bool = True
    multiple_of: Edge = 16
    max_ratio: Annotated[float, Meta(ge=1, le=1_000)] = 3.0
    max_edge: Edge = 3840
    min_pixels: Area = 655_360
    max_pixels: Area = 8_294_400
    allowed: Annotated[tuple[SizeText, ...], Meta(min_length=1)] | None = None

    def problem(self, size: str) -> str | None:
        """Return why the model does not draw this size, or None if it does."""
        if size == AUTO:
            return None if self.auto else "size must be WxH: this model does not take 'auto'."
        if not is_size(size):
            choice = "'auto' or WxH" if self.auto else "WxH"
            return f"size must be {choice}, such as 1024x1024."
        if self.allowed is not None and size not in self.allowed:
            return "size must be one of the sizes that the configuration lists for this model."
        return self._edges_problem(*edges(size))

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
        """Return the pixels of a size. "auto" counts as the largest size that the rules admit."""
        return self.max_pixels if size == AUTO else pixels(size)


class PriceTable(Struct, frozen=True, kw_only=True):
    """Prices in micro-dollars an image.

    `flat` is the price of everything without a cell. A cell is keyed by quality and size. With
    None as the size, it is the price of every size of that quality without a cell of its own.
    """

    flat: int | None = None
    cells: Mapping[tuple[str, str | None], int] = {}


class TokenPrices(Struct, frozen=True, kw_only=True):
    """Prices per million tokens, for billing = "tokens".

    The file has dollars, the fields have micro-dollars.

    Options:
        text_input: Dollars per million text tokens of the input.
        image_input: Dollars per million image tokens of the input.
        cached_text_input: The same for cached text; without it, the price of text_input.
        cached_image_input: The same for cached images; without it, the price of image_input.
        image_output: Dollars per million image tokens of the output.
        text_output: Dollars per million text tokens of the output; without it, the price of
            image_output.
    """

    text_input: int
    image_input: int
    cached_text_input: int
    cached_image_input: int
    image_output: int
    text_output: int


class RequestDefaults(Struct, frozen=True, kw_only=True):
    """Values for fields that a request leaves out. They must follow the model's own rules.

    Options:
        n: Images of a request without n.
        size: Size of a request without size.
    """

    n: Annotated[int, Meta(ge=1, le=1_000)] = 1
    size: Annotated[
        str, Meta(pattern=rf"\A(auto|{_SIZE.pattern})\Z", description='"auto" or WxH')
    ] = "1024x1024"


class Rewrite(Struct, frozen=True, kw_only=True):
    """Replaces values that clients have built in, before anything is decided.

    Policy, price, usage, cache and upstream see the new values.

    Options:
        quality: Qualities that are replaced.
        size: Sizes that are replaced; the new ones must follow the model's own rules.
        drop: Fields that are taken off.
    """

    quality: Mapping[str, Quality] = {}
    size: Mapping[str, str] = {}
    drop: tuple[str, ...] = ()


class ModelOptions(Struct, frozen=True, kw_only=True):
    """The requests that a model accepts, and how they are billed.

    Options:
        max_n: Maximum images per request.
        max_prompt_chars: Maximum characters of a prompt; a longer one gets 400.
        aliases: Further names of the model in requests; the upstream, policies, prices and usage
            only know its own name.
        billing: "table" charges the prices per image; "tokens" charges the tokens that the answer
            reports, at token_prices.
    """

    max_n: Annotated[int, Meta(ge=1, le=1_000)] = 10
    max_prompt_chars: Annotated[int, Meta(ge=1, le=10_000_000)] = 32_000
    aliases: Annotated[tuple[str, ...], Meta(max_length=MOST_NAMES)] = ()
    billing: Billing = "table"
    sizes: SizeRules = SizeRules()
    defaults: RequestDefaults = RequestDefaults()


class Model(ModelOptions, frozen=True, kw_only=True):
    """A model with its prices. It has `token_prices` exactly if `billing` is "tokens".

    A request's field that is in `upstream_defaults` with its value means the same as none.
    """

    name: str
    prices: PriceTable
    token_prices: TokenPrices | None = None
    upstream_defaults: Mapping[str, bool | int | str] = field(
        default_factory=lambda: UPSTREAM_DEFAULTS
    )
    rewrite: Rewrite = Rewrite()


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
"""The model of a configuration without [models]."""

KNOWN_TOKEN_PRICES: Mapping[str, Mapping[str, int]] = {
    GPT_IMAGE_2.name: {
        "text_input": 5_000_000,
        "image_input": 8_000_000,
        "cached_text_input": 1_250_000,
        "cached_image_input": 2_000_000,
        "image_output": 30_000_000,
    }
}
"""The default token prices of a model, by its name."""


def find_model(models: Mapping[str, Model], name: str) -> Model | None:
    """Return the model of this name or alias, or None."""
    named = models.get(name)
    return named or next((model for model in models.values() if name in model.aliases), None)


def closed_labels(request: ImageRequest, model: Model) -> tuple[str, str]:
    """Return size and quality as labels: "other" unless the configuration names them."""
    size = request.size
    named = size in (AUTO, model.defaults.size) or size in (model.sizes.allowed or ())
    if not named and all(size != priced for _, priced in model.prices.cells):
        size = "other"
    return size, quality_label(request.quality)
