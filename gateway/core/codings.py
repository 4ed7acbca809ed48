"""Content codings that the gateway inflates: gzip and deflate (RFC 9110, section 8.4.1)."""

import zlib

_GZIP = 16 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


def window_bits(coding: str, data: bytes) -> int | None:
    """Return the `wbits` with which zlib inflates `data`, or None for another coding.

    The standard says that deflate is zlib's format, but some senders omit its header. They are told
    apart by the first two bytes: no encoder begins raw data with four bits that are a header's.
    """
    match coding.strip().lower():
        case "gzip" | "x-gzip":
            return _GZIP
        case "deflate":
            has_header = (
                int.from_bytes(data[:2], "big") % 31 == 0 and data[:1] and data[0] & 15 == 8
            )
            return zlib.MAX_WBITS if has_header else _RAW
        case _:
            return None
