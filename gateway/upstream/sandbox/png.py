"""Pictures for the sandbox: real PNGs of any size, drawn from a digest in a few milliseconds.

A picture is a mirrored pattern of circles, diamonds and squares on a diagonal gradient. The prompt
decides the colours and the number of tiles, so two prompts look different at a glance. The prompt
and the seed decide the place of each tile, so the images of one request look related.

A row is built from slices of the palette's ramps, because single pixels would be too slow. A slice
that starts one pixel later in each row draws the diagonal of the gradient.
"""

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from colorsys import hls_to_rgb
from hashlib import sha256
from itertools import pairwise

SIGNATURE = b"\x89PNG\r\n\x1a\n"

SHADES = 64
"""Colours in a ramp, from one end of a gradient to the other."""

RAMPS = 4
"""The background and three colours of tiles."""

Shape = Callable[[float], float]
"""Half of a tile's painted width at a height, both as fractions of the tile."""


def draw(prompt: str, width: int, height: int, seed: int = 0) -> bytes:
    """Draw a PNG of exactly `width` x `height` pixels (each at least 1)."""
    return draw_digest(prompt_digest(prompt), width, height, seed)


def prompt_digest(prompt: str) -> bytes:
    """Return the only part of a prompt that a picture depends on: 32 bytes."""
    return sha256(prompt.encode("utf-8", "surrogatepass")).digest()


def draw_digest(digest: bytes, width: int, height: int, seed: int = 0) -> bytes:
    """Draw the PNG of the prompt with this digest."""
    rows = b"".join(_rows(digest, width, height, seed))
    # One byte per pixel: the number of a colour in the palette.
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", _palette(digest)),
            _chunk(b"IDAT", zlib.compress(rows, 1)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# -- colours ------------------------------------------------------------------------------------


def _palette(digest: bytes) -> bytes:
    """Return `RAMPS` x `SHADES` colours: a quiet background, and tiles that stand out."""
    hue = int.from_bytes(digest[:2], "big") / 0x10000
    spread = (0.08, 0.14, 0.33, 0.42)[digest[2] % 4]
    dark = digest[3] % 3 == 0
    ground, loud, pale = (0.16, 0.56, 0.76) if dark else (0.90, 0.52, 0.34)
    return b"".join(
        (
            _ramp((hue, ground, 0.45), (hue + 0.10, ground - 0.06, 0.55)),
            _ramp((hue, loud, 0.62), (hue + 0.05, loud - 0.08, 0.70)),
            _ramp((hue + spread, loud, 0.58), (hue + spread + 0.05, loud - 0.06, 0.66)),
            _ramp((hue - spread / 2, pale, 0.50), (hue - spread / 2 + 0.05, pale - 0.06, 0.58)),
        )
    )


def _ramp(start: tuple[float, ...], end: tuple[float, ...]) -> bytes:
    """Return the colours between two values of (hue, lightness, saturation)."""
    colours = bytearray()
    for shade in range(SHADES):
        part = shade / (SHADES - 1)
        hue, light, full = (a + (b - a) * part for a, b in zip(start, end, strict=True))
        colours.extend(round(255 * value) for value in hls_to_rgb(hue % 1.0, light, full))
    return bytes(colours)


# -- tiles --------------------------------------------------------------------------------------


def _circle(y: float) -> float:
    return math.sqrt(max(0.0, 0.25 - (y - 0.5) ** 2))


def _diamond(y: float) -> float:
    return 0.5 - abs(y - 0.5)


def _square(y: float) -> float:
    return 0.5


_SHAPES: tuple[Shape, ...] = (_circle, _square, _diamond)

Tile = tuple[Shape, int]
"""A shape and the number of its ramp."""


def _tiles(digest: bytes, seed: int, columns: int, rows: int) -> list[list[Tile | None]]:
    """Return rows of tiles, mirrored left to right. None is background; `columns` is even."""
    random = _random_bytes(digest, seed)
    pattern = []
    for _ in range(rows):
        left = [_tile(next(random), next(random)) for _ in range(columns // 2)]
        pattern.append(left + left[::-1])
    return pattern


def _tile(kind: int, colour: int) -> Tile | None:
    if kind < 40:
        return None
    return _SHAPES[kind % len(_SHAPES)], 1 + colour % (RAMPS - 1)


def _random_bytes(digest: bytes, seed: int) -> Iterator[int]:
    for block in range(2**32):
        yield from sha256(b"%b %d %d" % (digest, seed, block)).digest()


# -- rows ---------------------------------------------------------------------------------------


def _rows(digest: bytes, width: int, height: int, seed: int) -> Iterator[bytes]:
    """Yield the rows, each after the byte that says that it is not filtered."""
    edge = min(width, height) / (4 + digest[4] % 4)
    columns, lines = 2 * max(1, round(width / edge / 2)), max(1, round(height / edge))
    ramps = [_diagonal(ramp, width + height) for ramp in range(RAMPS)]
    across = [column * width // columns for column in range(columns + 1)]
    down = [line * height // lines for line in range(lines + 1)]
    pattern = _tiles(digest, seed, columns, lines)
    for tiles, (top, bottom) in zip(pattern, pairwise(down), strict=True):
        placed = [
            (tile[0], ramps[tile[1]], left, right - left)
            for tile, (left, right) in zip(tiles, pairwise(across), strict=True)
            if tile
        ]
        for y in range(top, bottom):
            yield _row(placed, ramps[0], y, (y - top + 0.5) / (bottom - top), width)


def _diagonal(ramp: int, length: int) -> bytes:
    return bytes(ramp * SHADES + place * SHADES // length for place in range(length))


def _row(
    placed: list[tuple[Shape, bytes, int, int]], ground: bytes, y: int, height: float, width: int
) -> bytes:
    """Return a row. `placed` has tiles with ramp, left edge and width; `height` is in a tile."""
    parts, done = [b"\0"], 0
    for shape, colours, left, wide in placed:
        half = shape(height)
        first, last = left + round((0.5 - half) * wide), left + round((0.5 + half) * wide)
        parts += (ground[y + done : y + first], colours[y + first : y + last])
        done = last
    parts.append(ground[y + done : y + width])
    return b"".join(parts)
