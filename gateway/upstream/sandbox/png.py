"""Pictures for the sandbox: real PNGs of any size, drawn from a digest in a few milliseconds.

A picture is a mirrored pattern of tiles on a diagonal gradient. The digest decides the colours and
the number of tiles, so two prompts look different at a glance. With the seed it decides the colour
of each tile, so the images of one request look related.

A row is built from slices of the palette's ramps, because single pixels would be too slow. A slice
that starts one pixel later in each row draws the diagonal of the gradient.
"""

import struct
import zlib
from collections.abc import Iterator
from colorsys import hls_to_rgb
from hashlib import shake_256
from itertools import pairwise

SIGNATURE = b"\x89PNG\r\n\x1a\n"

SHADES = 64
"""Colours in a ramp, from one end of a gradient to the other."""

RAMPS = ((0.00, 0.88), (0.05, 0.52), (0.50, 0.34), (0.12, 0.70))
"""For each colour of tiles, its distance from the first hue, and its lightness."""


def draw(digest: bytes, width: int, height: int, seed: int = 0) -> bytes:
    """Draw a PNG of exactly `width` x `height` pixels (each at least 1). A digest has 32 bytes."""
    # One byte per pixel: the number of a colour in the palette.
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = b"".join(_rows(digest, width, height, seed))
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


def _palette(digest: bytes) -> bytes:
    """Return the `SHADES` colours of each ramp. They grow lighter and change their hue a little."""
    colours = bytearray()
    for distance, light in RAMPS:
        for shade in range(SHADES):
            part = shade / SHADES / 10
            hue = digest[0] / 256 + distance + part
            colours.extend(round(255 * value) for value in hls_to_rgb(hue, light + part, 0.6))
    return bytes(colours)


def _rows(digest: bytes, width: int, height: int, seed: int) -> Iterator[bytes]:
    """Yield the rows, each after the byte that says that it is not filtered."""
    edge = min(width, height) / (4 + digest[1] % 4)
    half, lines = max(1, round(width / edge / 2)), max(1, round(height / edge))
    length = width + height
    gradient = [place * SHADES // length for place in range(length)]
    ramps = [bytes(ramp * SHADES + shade for shade in gradient) for ramp in range(len(RAMPS))]
    across = [column * width // (2 * half) for column in range(2 * half + 1)]
    colours = shake_256(b"%b %d" % (digest, seed)).digest(lines * half)
    for line in range(lines):
        left = [ramps[colour % len(RAMPS)] for colour in colours[line * half : (line + 1) * half]]
        tiles = [*left, *reversed(left)]
        for y in range(line * height // lines, (line + 1) * height // lines):
            columns = zip(tiles, pairwise(across), strict=True)
            yield b"\0" + b"".join(ramp[y + start : y + end] for ramp, (start, end) in columns)
