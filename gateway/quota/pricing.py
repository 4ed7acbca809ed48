"""The ceiling of a request's price, and the charge for its response, as integer micro-dollars.

- A configured cell is the exact price of its quality and size. A cell without a size, or a flat
  price, covers every size without its own cell.
- Any other combination has the ceiling price: the highest cell of its quality (or of all, if the
  quality has none) x max(1, pixels / 1,048,576), rounded up to a micro-dollar.
- "auto" is held at the highest quality and the largest size. It is settled by the quality and size
  in the response, if they are known. Values that the client chose stay as they are.

So a charge only exceeds its ceiling if there are more images than the client asked for.

With token billing the ceiling is the table's plus one text token for each byte of the prompt, and
100 image tokens for each partial image of a stream. The usage in the response is charged for any
number of images, even above the ceiling. If the usage is not sound, the charge falls back to the
greater of two amounts: the table's charge with these tokens, or the least that the usage shows.
"""

from gateway.config.models import AUTO, QUALITIES, Model, pixels
from gateway.core.model import ImageRequest
from gateway.quota.image_response import ImageResponse
from gateway.quota.token_usage import cost, partial_ceiling, prompt_ceiling

UNIT_PIXELS = 1_048_576
"""The pixels that a cell's price covers when it stands in for another size: 1024x1024."""


def ceiling(model: Model, request: ImageRequest) -> int:
    """Return the most that the request can cost, in micro-dollars."""
    images = request.n * _highest_price(model, request.quality, request.size)
    return images + _beside_the_table(model, request)


def charge(model: Model, request: ImageRequest, response: ImageResponse) -> int:
    """Return the cost of the images delivered, in micro-dollars."""
    by_table = _charge_by_table(model, request, response)
    if model.token_prices is None:
        return by_table
    by_usage = cost(model.token_prices, response.usage)
    if response.usage.sound:
        return by_usage
    return max(by_usage, by_table + _beside_the_table(model, request))


def _beside_the_table(model: Model, request: ImageRequest) -> int:
    """Return the most that tokens cost which no price of an image covers."""
    prices = model.token_prices
    if prices is None:
        return 0
    partial = partial_ceiling(prices, request.n * request.partial_images)
    return prompt_ceiling(prices, request.prompt) + partial


def falls_back(model: Model, response: ImageResponse) -> bool:
    """Whether the model bills tokens, but the response does not say how many there were."""
    return model.token_prices is not None and not response.usage.sound


def _charge_by_table(model: Model, request: ImageRequest, response: ImageResponse) -> int:
    quality, size = response.quality, response.size
    if request.quality not in (None, AUTO) or quality not in _known_qualities(model):
        quality = request.quality
    if request.size != AUTO or size is None or not _is_covered(model, size):
        size = request.size
    return response.images * _highest_price(model, quality, size)


def _known_qualities(model: Model) -> set[str]:
    return {*QUALITIES, *(quality for quality, _ in model.prices.cells)} - {AUTO}


def _is_covered(model: Model, size: str) -> bool:
    """Whether the hold of "auto" covers this size."""
    try:
        return pixels(size) <= model.sizes.max_pixels
    except ValueError:
        return False


def _highest_price(model: Model, quality: str | None, size: str) -> int:
    """Return the price of one image. Without a quality it is the highest of all qualities."""
    if quality is None or quality == AUTO:
        return max(_price(model, each, size) for each in _known_qualities(model))
    return _price(model, quality, size)


def _price(model: Model, quality: str, size: str) -> int:
    cells = model.prices.cells
    own = {of_size: price for (of, of_size), price in cells.items() if of == quality}
    for_all = own.get(None, model.prices.flat)
    if size in own:
        return own[size]
    if for_all is not None:
        return max((for_all, *own.values())) if size == AUTO else for_all
    highest = max(own.values() or cells.values())
    return max(highest, -(-highest * model.sizes.pixels(size) // UNIT_PIXELS))
