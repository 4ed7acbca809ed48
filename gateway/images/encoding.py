"""Base64 in pieces: Python's own functions hold all other threads until a whole text is done.

A picture of 10 MB takes them 20 ms. In pieces, the event loop runs in between. Run both functions
in a thread.
"""

from binascii import Error, a2b_base64, b2a_base64

Buffer = bytes | bytearray | memoryview

PIECE_BYTES = 98_304
"""Bytes of a piece, divisible by three: no piece but the last one has padding."""

_PIECE_CHARS = PIECE_BYTES // 3 * 4


def decode(text: Buffer) -> bytes | None:
    """Return the bytes of a base64 text, or None unless `encode` makes the same text of them."""
    view = memoryview(text)
    if len(view) % 4:
        return None
    pieces = [view[at : at + _PIECE_CHARS] for at in range(0, len(view), _PIECE_CHARS)]
    try:
        found = [a2b_base64(piece, strict_mode=True) for piece in pieces]
    except Error:
        return None
    # Padding ends a text, and the bits that it leaves over must be zero.
    whole = all(len(piece) == PIECE_BYTES for piece in found[:-1])
    if not whole or (found and encode(found[-1]) != bytes(pieces[-1])):
        return None
    return b"".join(found)


def encode(data: Buffer) -> bytes:
    """Return the base64 text of some bytes, without line breaks."""
    view = memoryview(data)
    return b"".join(
        b2a_base64(view[at : at + PIECE_BYTES], newline=False)
        for at in range(0, len(view), PIECE_BYTES)
    )
