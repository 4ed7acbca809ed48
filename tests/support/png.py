"""A strict reader of PNG files, to prove that a picture is whole."""

import struct
import zlib
from collections.abc import Iterator

from msgspec import Struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Png(Struct, frozen=True):
    """A PNG with a palette. `pixels` are its rows, one after the other."""

    width: int
    height: int
    palette: bytes
    pixels: bytes

    def row(self, y: int) -> bytes:
        """One row of pixels."""
        return self.pixels[y * self.width : (y + 1) * self.width]


def read_png(data: bytes) -> Png:
    """Check the structure and the checksums of a PNG, and read it."""
    assert data.startswith(SIGNATURE)
    chunks = list(_chunks(data[len(SIGNATURE) :]))
    assert [kind for kind, _ in chunks] == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    header, palette, packed, end = (content for _, content in chunks)
    width, height, *rest = struct.unpack(">IIBBBBB", header)
    assert rest == [8, 3, 0, 0, 0]
    assert end == b""
    rows = zlib.decompress(packed)
    assert len(rows) == height * (width + 1)
    assert set(rows[:: width + 1]) == {0}, "a row is filtered"
    pixels = b"".join(rows[y * (width + 1) + 1 : (y + 1) * (width + 1)] for y in range(height))
    assert 3 * max(pixels) < len(palette) <= 768
    return Png(width, height, palette, pixels)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        length = int.from_bytes(data[:4], "big")
        kind, content, check = data[4:8], data[8 : 8 + length], data[8 + length : 12 + length]
        assert int.from_bytes(check, "big") == zlib.crc32(kind + content)
        yield kind, content
        data = data[12 + length :]
