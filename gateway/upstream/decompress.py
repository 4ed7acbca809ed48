"""Decoding of an upstream's Content-Encoding, with a limit on the size.

The gateway asks for no compression, but an edge on the way may compress all the same.
"""

import zlib

from gateway.core.codings import window_bits

GZIP_MAGIC = b"\x1f\x8b"
"""The beginning of gzip data. No JSON begins with it."""


def inflate(data: bytes, encoding: str, limit: int) -> bytes:
    """Decode data with this Content-Encoding to at most `limit` bytes.

    Raises ValueError for more, for damaged data, and for encodings other than gzip and deflate. It
    takes about 5 ms per megabyte of base64, so run it off the event loop.
    """
    format = window_bits(encoding, data)
    if format is None:
        raise ValueError("an unknown encoding")
    stream = zlib.decompressobj(format)
    try:
        # One byte above the limit distinguishes data that just fits from data that is too long.
        result = stream.decompress(data, limit + 1)
    except zlib.error:
        raise ValueError("damaged data") from None
    if len(result) > limit or not stream.eof or stream.unused_data:
        raise ValueError("too long, cut off, or followed by something else")
    return result
