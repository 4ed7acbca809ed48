"""Inflating compressed request bodies, up to the same limit as others.

A few bytes can inflate to gigabytes, and others take long to inflate to nothing. So both sides of
each step are bounded, and other requests go on between the steps.
"""

import zlib
from collections.abc import Iterable

from gateway.core.codings import window_bits
from gateway.core.errors import BodyTooLarge, InvalidRequest, WrongContentEncoding
from gateway.web.body_budget import BodyShare

MOST_CODINGS = 4
"""How many codings a body may have, one within the other."""

_STEP_IN = 4_096
_STEP_OUT = 65_536
"""The most bytes that one step reads and writes: it takes less than a millisecond."""


def read_codings(values: Iterable[str]) -> list[str]:
    """Return the codings in the Content-Encoding headers, in the order of their use.

    "identity" and empty items are none. Raises WrongContentEncoding.
    """
    items = (item.strip().lower() for value in values for item in value.split(","))
    codings = [item for item in items if item not in ("", "identity")]
    if len(codings) > MOST_CODINGS or any(window_bits(coding, b"") is None for coding in codings):
        raise WrongContentEncoding
    return codings


async def inflate(body: bytes, codings: list[str], limit: int, share: BodyShare) -> bytes:
    """Return the body without its codings: at most `limit` bytes, which count in `share`.

    Raises BodyTooLarge, InvalidRequest, and RateLimited or Overloaded.
    """
    for coding in reversed(codings):
        if body:
            body = await _inflate(body, coding, limit, share)
    return body


async def _inflate(body: bytes, coding: str, limit: int, share: BodyShare) -> bytes:
    stream = zlib.decompressobj(window_bits(coding, body) or 0)
    result = bytearray()
    for start in range(0, len(body), _STEP_IN):
        rest, goes_on = body[start : start + _STEP_IN], True
        while goes_on:
            if result or start:
                await share.turn()
            try:
                some = stream.decompress(rest, _STEP_OUT)
            except zlib.error:
                raise _broken() from None
            if len(result) + len(some) > limit:
                raise BodyTooLarge(limit)
            result += some
            share.reach(len(result))
            rest = stream.unconsumed_tail
            goes_on = not stream.eof and (bool(rest) or len(some) == _STEP_OUT)
        if stream.unused_data or (stream.eof and start + _STEP_IN < len(body)):
            raise _broken()
    if not stream.eof:
        raise _broken()
    return bytes(result)


def _broken() -> InvalidRequest:
    return InvalidRequest(
        "The compressed request body is damaged, cut off, or followed by something else.",
        code="invalid_body",
    )
