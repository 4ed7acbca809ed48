"""What a request may cost at most, and what its answer costs. Integers alone, in micro-dollars.

- A configured cell is the exact price of its quality and size; one without a size, or a flat
  price, covers every size that has no cell of its own.
- Any other combination falls to the ceiling rule: the dearest cell of that quality (of all, where
  the quality has none) x max(1, pixels / 1,048,576), rounded up to a micro-dollar.
- "auto" is held at the dearest quality and the largest size, and settled by what the answer says
  of itself, where it says something known. What was asked for by name stays as it was asked.

So a charge is above its ceiling only where more images came than were asked for.

Where tokens are billed, the ceiling is that of the table and, for the prompt, a text token for
each of its bytes. The answer's usage is charged as it stands, however many images came, and above
the ceiling too. Without a sound usage the table's charge and the whole prompt are charged, or what
the usage shows at the least, whichever is more.
"""

from gateway.config.models import AUTO, QUALITIES, Model, pixels
from gateway.core.model import ImageRequest
from gateway.quota.image_response import Answered
from gateway.quota.token_usage import cost, prompt_ceiling

UNIT_PIXELS = 1_048_576
"""The pixels that a cell's price covers when it stands in for another size: 1024x1024."""


def ceiling(model: Model, request: ImageRequest) -> int:
    """The most that the whole request can cost, in micro-dollars."""
    images = request.n * _dearest(model, request.quality, request.size)
    if model.token_prices is None:
        return images
    return images + prompt_ceiling(model.token_prices, request.prompt)


def charge(model: Model, request: ImageRequest, answered: Answered) -> int:
    """The cost of what was delivered, in micro-dollars."""
    by_table = _charge_by_table(model, request, answered)
    if model.token_prices is None:
        return by_table
    by_usage = cost(model.token_prices, answered.usage)
    if answered.usage.sound:
        return by_usage
    return max(by_usage, by_table + prompt_ceiling(model.token_prices, request.prompt))


def _charge_by_table(model: Model, request: ImageRequest, answered: Answered) -> int:
    quality, size = answered.quality, answered.size
    if request.quality not in (None, AUTO) or quality not in _known_qualities(model):
        quality = request.quality
    if request.size != AUTO or size is None or not _is_covered(model, size):
        size = request.size
    return answered.images * _dearest(model, quality, size)


def _known_qualities(model: Model) -> set[str]:
    return {*QUALITIES, *(quality for quality, _ in model.prices.cells)} - {AUTO}


def _is_covered(model: Model, size: str) -> bool:
    """Whether this is a size that the hold of "auto" covers."""
    try:
        return pixels(size) <= model.sizes.max_pixels
    except ValueError:
        return False


def _dearest(model: Model, quality: str | None, size: str) -> int:
    """The price of one image; the highest over the qualities where none is named."""
    if quality is None or quality == AUTO:
        return max(_price(model, each, size) for each in _known_qualities(model))
    return _price(model, quality, size)


def _price(model: Model, quality: str, size: str) -> int:
    cells = model.prices.cells
    if (found := cells.get((quality, size))) is not None:
        return found
    own = {of_size: price for (of, of_size), price in cells.items() if of == quality}
    for_all = own.get(None, model.prices.flat)
    if size in own:
        return own[size]
    if for_all is not None:
        return max((for_all, *own.values())) if size == AUTO else for_all
    dearest = max(own.values() or cells.values())
    return max(dearest, -(-dearest * model.sizes.pixels(size) // UNIT_PIXELS))
