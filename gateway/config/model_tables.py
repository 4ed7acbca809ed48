"""The [models] of gateway.toml: the requests that each model accepts, and what an image costs.

What is there about clients is read in `gateway.config.client_tables`.

Prices are dollars an image. A number applies to everything below it: to the whole model
(`prices = 0.04`), to a quality (`[models.X.prices] low = 0.006`), or to one size of a quality
(`[models.X.prices.low] "1024x1024" = 0.006`). A model that bills tokens needs them too: requests
reserve these prices, and an answer that reports no tokens is charged by them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config.client_tables import (
    MODEL_NAME,
    MODEL_NAME_RULE,
    check_aliases,
    check_sizes,
    read_rewrite,
    read_upstream_defaults,
)
from gateway.config.models import (
    GPT_IMAGE_2,
    KNOWN_TOKEN_PRICES,
    UPSTREAM_DEFAULTS,
    Model,
    ModelOptions,
    PriceTable,
    Quality,
    TokenPrices,
    is_size,
)
from gateway.config.options import Usd, is_table, option, read_fields, read_table
from gateway.core.faults import Faults, did_you_mean

PRICED_QUALITIES: tuple[Quality, ...] = ("low", "medium", "high")
"""The qualities that have prices: "auto" costs the price of the quality that the upstream chose."""

_PRICE = option(Usd, default=None)
TOKEN_PRICES = dict.fromkeys(TokenPrices.__struct_fields__, _PRICE)

_READ_APART = ("prices", "token_prices", "upstream_defaults", "rewrite")
"""The tables of a model that no Struct of options has."""

_FALLBACKS = {
    "cached_text_input": "text_input",
    "cached_image_input": "image_input",
    "text_output": "image_output",
}
"""The token price that applies where this one is left out."""


class ModelTable(ModelOptions, frozen=True, kw_only=True):
    """A model that the gateway offers. A request for any other model gets 400.

    Options:
        default: true makes this the model of requests that name none. Of several models, exactly
            one needs it.
    """

    default: bool = False


def read_models(table: object, faults: Faults) -> tuple[dict[str, Model], str]:
    """Return the models by name, and the name of the default model.

    An empty table means gpt-image-2 at its known prices.
    """
    if not table or not is_table(table, faults):
        return {GPT_IMAGE_2.name: GPT_IMAGE_2}, GPT_IMAGE_2.name
    models = {
        name: _read_model(name, options, faults.at(name))
        for name, options in table.items()
        if is_table(options, faults.at(name))
    }
    check_aliases(models, faults)
    return models, _default_model(table, faults)


def _default_model(table: dict[str, Any], faults: Faults) -> str:
    if len(table) == 1:
        return next(iter(table))
    chosen = [
        name
        for name, options in table.items()
        if isinstance(options, dict) and options.get("default") is True
    ]
    if len(chosen) != 1:
        faults.add("exactly one of several models needs default = true")
    return chosen[0] if chosen else ""


def _read_model(name: str, table: dict[str, Any], faults: Faults) -> Model:
    before = len(faults)
    if not MODEL_NAME.fullmatch(name):
        faults.add(MODEL_NAME_RULE)
    values = read_fields(table, ModelTable, faults, tables=_READ_APART)
    values.pop("default", None)
    readable = len(faults) == before
    model = Model(
        name=name,
        prices=_read_prices(table.get("prices", {}), faults.at("prices")),
        token_prices=_read_token_prices(name, table, faults),
        upstream_defaults=read_upstream_defaults(
            table.get("upstream_defaults", UPSTREAM_DEFAULTS), faults.at("upstream_defaults")
        ),
        rewrite=read_rewrite(table.get("rewrite", {}), faults.at("rewrite")),
        **values,
    )
    if readable:
        _check_consistency(model, faults)
        check_sizes(model, faults)
    return model


def _check_consistency(model: Model, faults: Faults) -> None:
    """Find values that are each valid, but not together."""
    sizes = model.sizes
    if sizes.min_pixels > sizes.max_pixels:
        faults.add("must not be above max_pixels", "sizes", "min_pixels")
    if model.defaults.n > model.max_n:
        faults.add("must not be above max_n", "defaults", "n")
    problem = sizes.problem(model.defaults.size)
    if problem:
        faults.add(_against_rules(problem), "defaults", "size")
    for position, size in enumerate(sizes.allowed or (), start=1):
        if problem := sizes.problem(size):
            faults.add(f"item {position} {_against_rules(problem)}", "sizes", "allowed")
    for quality, price_size in model.prices.cells:
        if price_size is not None and (problem := sizes.problem(price_size)):
            faults.add(_against_rules(problem), "prices", quality, price_size)


def _against_rules(problem: str) -> str:
    return f"breaks the model's own size rules: {problem.rstrip('.')}"


# -- prices -------------------------------------------------------------------------------------


def _read_prices(value: object, faults: Faults) -> PriceTable:
    """Return the valid prices. `faults` is at the table of prices."""
    prices = dict(_found_prices(value, faults))
    flat = prices.pop((None, None), None)
    cells = {(quality, size): price for (quality, size), price in prices.items() if quality}
    return PriceTable(flat=flat, cells=cells)


def _found_prices(
    value: object, faults: Faults, quality: str | None = None, size: str | None = None
) -> Iterator[tuple[tuple[str | None, str | None], int]]:
    """Yield each price with its quality and size. One without them is for all of them."""
    if size is not None or not isinstance(value, dict):
        try:
            yield (quality, size), _PRICE.convert(value)
        except ValueError as error:
            faults.add(str(error))
        return
    if not value:
        faults.add("needs at least one price")
    for name, inner in value.items():
        if quality is None and name not in PRICED_QUALITIES:
            hint = did_you_mean(name, PRICED_QUALITIES)
            faults.add(f"is not low, medium or high{hint}", name)
        elif quality is not None and not is_size(name):
            faults.add("must be a size such as 1024x1024", name)
        else:
            names = (name, None) if quality is None else (quality, name)
            yield from _found_prices(inner, faults.at(name), *names)


def _read_token_prices(name: str, model: Mapping[str, Any], faults: Faults) -> TokenPrices | None:
    """Return the token prices, or None if the model has none or they are wrong.

    `model` is the model's whole table, and `faults` is at that table.
    """
    billing, faults = model.get("billing", "table"), faults.at("token_prices")
    if billing == "table" and "token_prices" in model:
        faults.add('needs billing = "tokens" to be charged')
    if billing != "tokens":
        return None
    before, written = len(faults), model.get("token_prices", {})
    prices = {**KNOWN_TOKEN_PRICES.get(name, {}), **read_table(written, TOKEN_PRICES, faults)}
    if len(faults) == before:
        _check_token_prices(prices, faults)
    if len(faults) > before:
        return None
    for kind, other in _FALLBACKS.items():
        prices.setdefault(kind, prices[other])
    return TokenPrices(**prices)


def _check_token_prices(prices: Mapping[str, int], faults: Faults) -> None:
    for kind in TOKEN_PRICES:
        if kind not in prices and kind not in _FALLBACKS:
            faults.add('is needed where billing is "tokens"', kind)
    for cached in ("cached_text_input", "cached_image_input"):
        full = _FALLBACKS[cached]
        if cached in prices and full in prices and prices[cached] > prices[full]:
            faults.add(f"must not be above {full}", cached)
