"""Decoding of an upstream's Content-Encoding, with a limit on the size.

The gateway asks for no compression, but an edge on the way may compress all the same.
"""

import zlib
from contextlib import suppress

from gateway.core.codings import window_bits

GZIP_MAGIC = b"\x1f\x8b"
"""The beginning of gzip data. No JSON begins with it."""


PIECE_BYTES = 65_536
"""How much is decoded at once: a fault loses the piece that it is in."""


def inflate(data: bytes, encoding: str, limit: int) -> tuple[bytes, bool]:
    """Decode data with this Content-Encoding, as far as they can be, to at most `limit` bytes.

    Returns also whether that is all of them: neither longer, damaged, cut off, nor followed by
    something else. Raises ValueError for encodings other than gzip and deflate. It takes about 5 ms
    per megabyte of base64, so run it off the event loop.
    """
    format = window_bits(encoding, data)
    if format is None:
        raise ValueError("an unknown encoding")
    stream = zlib.decompressobj(format)
    found: list[bytes] = []
    # One byte above the limit distinguishes data that just fits from data that is too long.
    left = limit + 1
    used = 0
    with suppress(zlib.error):
        while used < len(data) and left and not stream.eof:
            found.append(stream.decompress(data[used : used + PIECE_BYTES], left))
            used += PIECE_BYTES
            left -= len(found[-1])
    is_whole = left > 0 and stream.eof and used >= len(data) and not stream.unused_data
    return b"".join(found)[:limit], is_whole
