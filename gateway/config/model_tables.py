"""The [models] of gateway.toml: what may be asked of each, and what an image costs.

Prices are dollars an image. A number applies to everything below it: to the whole model
(`prices = 0.04`), to a quality (`[models.X.prices] low = 0.006`), or to one size of a quality
(`[models.X.prices.low] "1024x1024" = 0.006`). Where tokens are billed they are needed all the same:
a call is held at them, and its answer may name no tokens.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from gateway.config.errors import Place, did_you_mean
from gateway.config.models import (
    GPT_IMAGE_2,
    KNOWN_TOKEN_PRICES,
    Model,
    PriceTable,
    Quality,
    SizeRules,
    TokenPrices,
    is_size,
)
from gateway.config.options import Usd, option, options_of, read_table

PRICED_QUALITIES: tuple[Quality, ...] = ("low", "medium", "high")
"""The qualities that have prices: "auto" costs what the upstream makes of it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_FIELDS = options_of(Model, ("max_n", "max_prompt_chars", "billing", "default_n", "default_size"))
_DEFAULTS = {"n": _FIELDS.pop("default_n"), "size": _FIELDS.pop("default_size")}
_OPTIONS = _FIELDS | {"default": option(bool)}
_TABLES = ("sizes", "defaults", "prices", "token_prices")
_SIZES = options_of(SizeRules)
_PRICE = option(Usd)


def read_models(table: object, place: Place, faults: list[str]) -> tuple[dict[str, Model], str]:
    """The models by name and the default one's name; `faults` gets a line for all that is wrong.

    gpt-image-2 at its known prices where the table is empty.
    """
    if not table or not _is_table(table, place, faults):
        return {GPT_IMAGE_2.name: GPT_IMAGE_2}, GPT_IMAGE_2.name
    models = {
        name: _read_model(name, options, place.table(name), faults)
        for name, options in table.items()
        if _is_table(options, place.table(name), faults)
    }
    return models, _default_model(table, place, faults)


def _is_table(value: object, place: Place, faults: list[str]) -> TypeGuard[dict[str, Any]]:
    if not isinstance(value, dict):
        faults.append(f"{place}: must be a table")
    return isinstance(value, dict)


def _default_model(table: dict[str, Any], place: Place, faults: list[str]) -> str:
    if len(table) == 1:
        return next(iter(table))
    chosen = [
        name
        for name, options in table.items()
        if isinstance(options, dict) and options.get("default") is True
    ]
    if len(chosen) != 1:
        faults.append(f"{place}: exactly one of several models needs default = true")
    return chosen[0] if chosen else ""


def _read_model(name: str, table: dict[str, Any], place: Place, faults: list[str]) -> Model:
    before = len(faults)
    if not _NAME.fullmatch(name):
        faults.append(f"{place}: a model's name has letters, digits and . _ : / - (at most 128)")
    values = read_table(table, _OPTIONS, place, faults, tables=_TABLES)
    values.pop("default", None)
    sizes = read_table(table.get("sizes", {}), _SIZES, place.table("sizes"), faults)
    defaults = read_table(table.get("defaults", {}), _DEFAULTS, place.table("defaults"), faults)
    readable = len(faults) == before
    model = Model(
        name=name,
        prices=_read_prices(table.get("prices", {}), place, faults),
        token_prices=read_token_prices(name, table, place, faults),
        sizes=SizeRules(**sizes),
        **{f"default_{part}": value for part, value in defaults.items()},
        **values,
    )
    if readable:
        faults.extend(_contradictions(model, place))
    return model


def _contradictions(model: Model, place: Place) -> Iterator[str]:
    """What is right by itself and impossible together."""
    sizes, defaults = model.sizes, place.table("defaults")
    if sizes.min_pixels > sizes.max_pixels:
        yield f"{place.table('sizes').option('min_pixels')}: must not be above max_pixels"
    if model.default_n > model.max_n:
        yield f"{defaults.option('n')}: must not be above max_n"
    sized = [(defaults.option("size"), model.default_size)]
    sized += [
        (f"{place.table('sizes').option('allowed')}, item {position}", size)
        for position, size in enumerate(sizes.allowed or (), start=1)
    ]
    sized += [
        (place.table("prices").table(quality).option(size), size)
        for quality, size in model.prices.cells
        if size is not None
    ]
    for where, size in sized:
        if problem := sizes.problem(size):
            yield f"{where}: is against the model's own rules: {problem.rstrip('.')}"


# -- prices -------------------------------------------------------------------------------------


def _read_prices(value: object, place: Place, faults: list[str]) -> PriceTable:
    """The prices of a model, those that are right. `place` is the model's."""
    if not isinstance(value, dict):
        return PriceTable(flat=_price(value, place.option("prices"), faults))
    place = place.table("prices")
    if not value:
        faults.append(f"{place}: needs at least one price")
    cells: dict[tuple[str, str | None], int] = {}
    for quality, entry in value.items():
        if quality not in PRICED_QUALITIES:
            hint = did_you_mean(quality, PRICED_QUALITIES)
            faults.append(f"{place.option(quality)}: is not low, medium or high{hint}")
        else:
            cells |= _read_cells(quality, entry, place, faults)
    return PriceTable(cells=cells)


def _read_cells(
    quality: str, entry: object, place: Place, faults: list[str]
) -> dict[tuple[str, str | None], int]:
    """The prices of one quality: a number for all its sizes, or one for each size named."""
    if not isinstance(entry, dict):
        price = _price(entry, place.option(quality), faults)
        return {} if price is None else {(quality, None): price}
    place = place.table(quality)
    if not entry:
        faults.append(f"{place}: needs at least one price")
    cells: dict[tuple[str, str | None], int] = {}
    for size, value in entry.items():
        where = place.option(size)
        if not is_size(size):
            faults.append(f"{where}: must be a size such as 1024x1024")
        elif (price := _price(value, where, faults)) is not None:
            cells[quality, size] = price
    return cells


def _price(value: object, where: str, faults: list[str]) -> int | None:
    try:
        return int(_PRICE.convert(value))
    except ValueError as error:
        faults.append(f"{where}: {error}")
        return None


_TOKEN_PRICE_OPTIONS = {name: option(Usd) for name in TokenPrices.__struct_fields__}


_INSTEAD = {
    "cached_text_input": "text_input",
    "cached_image_input": "image_input",
    "text_output": "image_output",
}
"""The price that stands in for one that is left out."""


def read_token_prices(
    name: str, model: Mapping[str, Any], place: Place, faults: list[str]
) -> TokenPrices | None:
    """The token prices of a model, None where it has none or they are wrong.

    `model` is its whole table, at `place`; `faults` gets a line for all that is wrong.
    """
    billing, place = model.get("billing", "table"), place.table("token_prices")
    if billing == "table" and "token_prices" in model:
        faults.append(f'{place}: needs billing = "tokens" to be charged')
    if billing != "tokens":
        return None
    before, written = len(faults), model.get("token_prices", {})
    prices = {
        **KNOWN_TOKEN_PRICES.get(name, {}),
        **read_table(written, _TOKEN_PRICE_OPTIONS, place, faults),
    }
    if len(faults) == before:
        faults.extend(_impossible(prices, place))
    if len(faults) > before:
        return None
    return TokenPrices(**{kind: int(_token_price(prices, kind)) for kind in _TOKEN_PRICE_OPTIONS})


def _impossible(prices: Mapping[str, int], place: Place) -> Iterator[str]:
    for kind in _TOKEN_PRICE_OPTIONS:
        if kind not in prices and kind not in _INSTEAD:
            yield f'{place.option(kind)}: is needed where billing is "tokens"'
    for cached in ("cached_text_input", "cached_image_input"):
        full = _INSTEAD[cached]
        if cached in prices and full in prices and prices[cached] > prices[full]:
            yield f"{place.option(cached)}: must not be above {full}"


def _token_price(prices: Mapping[str, int], kind: str) -> int:
    return prices[kind] if kind in prices else prices[_INSTEAD[kind]]
