"""Decoding of an upstream's Content-Encoding, with a limit on the size.

The gateway asks for no compression, but an edge on the way may compress all the same.
"""

import zlib

_GZIP = 16 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


def inflate(data: bytes, encoding: str, limit: int) -> bytes:
    """Decode data with this Content-Encoding to at most `limit` bytes.

    Raises ValueError for more, for damaged data, and for encodings other than gzip and deflate. It
    takes about 5 ms per megabyte of base64, so run it off the event loop.
    """
    match encoding.strip().lower():
        case "gzip" | "x-gzip":
            return _inflated(data, _GZIP, limit)
        case "deflate":
            return _inflated(data, _deflate_format(data), limit)
        case _:
            raise ValueError("an unknown encoding")


def _deflate_format(data: bytes) -> int:
    """The standard is zlib's format (RFC 9110, 8.4.1.2), but some servers omit its header."""
    has_header = int.from_bytes(data[:2], "big") % 31 == 0 and data[:1] and data[0] & 15 == 8
    return zlib.MAX_WBITS if has_header else _RAW


def _inflated(data: bytes, format: int, limit: int) -> bytes:
    stream = zlib.decompressobj(format)
    try:
        # One byte above the limit distinguishes data that just fits from data that is too long.
        result = stream.decompress(data, limit + 1)
    except zlib.error:
        raise ValueError("damaged data") from None
    if len(result) > limit or not stream.eof or stream.unused_data:
        raise ValueError("too long, cut off, or followed by something else")
    return result
