"""What a request may cost at most, and what its answer costs. Integers alone, in micro-dollars.

- A configured cell is the exact price of its quality and size; one without a size, or a flat
  price, covers every size that has no cell of its own.
- Any other combination falls to the ceiling rule: the dearest cell of that quality (of all, where
  the quality has none) x max(1, pixels / 1,048,576), rounded up to a micro-dollar.
- "auto" is held at the dearest quality and the largest size, and settled by what the answer says
  of itself, where it says something known. What was asked for by name stays as it was asked.

So a charge is above its ceiling only where more images came than were asked for.
"""

from gateway.model import ImageRequest
from gateway.rules.catalog import AUTO, QUALITIES, Model, pixels

UNIT_PIXELS = 1_048_576
"""The pixels that a cell's price covers when it stands in for another size: 1024x1024."""


def ceiling(model: Model, request: ImageRequest) -> int:
    """The most that the whole request can cost, in micro-dollars."""
    return request.n * _dearest(model, request.quality, request.size)


def charge(
    model: Model, request: ImageRequest, delivered: int, size: str | None, quality: str | None
) -> int:
    """The cost of `delivered` images, in micro-dollars.

    `size` and `quality` are the answer's own words, or None where it says nothing.
    """
    if request.quality not in (None, AUTO) or quality not in _known_qualities(model):
        quality = request.quality
    if request.size != AUTO or size is None or not _is_covered(model, size):
        size = request.size
    return delivered * _dearest(model, quality, size)


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
    own = {of_size: price for (of, of_size), price in cells.items() if of == quality}
    for_all = own.get(None, model.prices.flat)
    if size in own:
        return own[size]
    if for_all is not None:
        return max((for_all, *own.values())) if size == AUTO else for_all
    dearest = max(own.values() or cells.values())
    return max(dearest, -(-dearest * model.sizes.pixels(size) // UNIT_PIXELS))
