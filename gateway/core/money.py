"""Conversion between dollars, as people write them, and the micro-dollars used inside.

Both directions are exact: an amount finer than a micro-dollar is refused, never rounded.
"""

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache
from typing import Annotated

from gateway.core.listing import Shown

MICRO = 1_000_000
"""Micro-dollars in a dollar."""

_PLAIN = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_STEP = Decimal("0.000001")
_EXACT = Context(prec=28, traps=[Inexact, InvalidOperation])
_MOST = 1_000_000_000
"""The highest amount in dollars: far above any budget, and sums of it still fit 64 bits."""


def dollars(value: str | int | Decimal) -> int:
    """Convert an amount in dollars, from 0 to a billion, to micro-dollars.

    Text must be a plain decimal number ("0.006"), without sign, exponent or separators. Raises
    ValueError if the amount is finer than a micro-dollar, out of range or not a number.
    """
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise ValueError("dollars are written as a plain decimal number")
    try:
        amount = Decimal(value).quantize(_STEP, context=_EXACT)
    except (Inexact, InvalidOperation):
        raise ValueError("dollars have at most six decimals") from None
    if not amount.is_finite() or not 0 <= amount <= _MOST:
        raise ValueError("dollars must be from 0 to a billion")
    return int(amount.scaleb(6))


@lru_cache(1_024)  # there are few distinct prices, and nearly every response names one
def format_usd(micro: int) -> str:
    """Format micro-dollars as dollars: a plain decimal number without trailing zeros."""
    sign = "-" if micro < 0 else ""
    whole, rest = divmod(abs(micro), MICRO)
    decimals = f".{rest:06d}".rstrip("0").rstrip(".")
    return f"{sign}{whole}{decimals}"


MicroDollars = Annotated[int, Shown(str, format_usd, "{}_usd")]
"""An amount in micro-dollars. Its public form is a decimal string of dollars."""
