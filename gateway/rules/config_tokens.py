"""The [models.X.token_prices] of gateway.toml: dollars per million tokens, by their kind.

They stand there where the model has `billing = "tokens"`, and are a fault anywhere else: whoever
writes them believes that they are charged. What is left out has the price that is known for the
model by its name; otherwise cached input costs as much as input that is not cached, text output as
much as image output, and the other three have to be written.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.rules.catalog import KNOWN_TOKEN_PRICES, TokenPrices
from gateway.rules.config_faults import Place
from gateway.rules.config_options import Usd, option, read_table

_OPTIONS = {name: option(Usd) for name in TokenPrices.__struct_fields__}
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
    prices = {**KNOWN_TOKEN_PRICES.get(name, {}), **read_table(written, _OPTIONS, place, faults)}
    if len(faults) == before:
        faults.extend(_impossible(prices, place))
    if len(faults) > before:
        return None
    return TokenPrices(**{kind: int(_price(prices, kind)) for kind in _OPTIONS})


def _impossible(prices: Mapping[str, int], place: Place) -> Iterator[str]:
    for kind in _OPTIONS:
        if kind not in prices and kind not in _INSTEAD:
            yield f'{place.option(kind)}: is needed where billing is "tokens"'
    for cached in ("cached_text_input", "cached_image_input"):
        full = _INSTEAD[cached]
        if cached in prices and full in prices and prices[cached] > prices[full]:
            yield f"{place.option(cached)}: must not be above {full}"


def _price(prices: Mapping[str, int], kind: str) -> int:
    return prices[kind] if kind in prices else prices[_INSTEAD[kind]]
