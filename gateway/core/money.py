"""Money at the border: dollars as people write them, micro-dollars inside. Never a rounding."""

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache

from gateway.core.model import MICRO

_PLAIN = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_STEP = Decimal("0.000001")
_EXACT = Context(prec=28, traps=[Inexact, InvalidOperation])
_MOST = 1_000_000_000
"""Dollars. Far above any budget, and a thousand of the largest images still fit 64 bits."""


def dollars(value: str | int | Decimal) -> int:
    """Micro-dollars of an amount in dollars, from 0 to a billion.

    Text is a plain decimal number ("0.006"): no sign, exponent or separators. Raises ValueError
    for what is finer than a micro-dollar, outside the range, or no number.
    """
    try:
        amount = _amount(value).quantize(_STEP, context=_EXACT)
    except (Inexact, InvalidOperation):
        raise ValueError("dollars have at most six decimals") from None
    if not amount.is_finite() or not 0 <= amount <= _MOST:
        raise ValueError("dollars must be from 0 to a billion")
    return int(amount.scaleb(6))


def _amount(value: str | int | Decimal) -> Decimal:
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise ValueError("dollars are written as a plain decimal number")
    return Decimal(value)


@lru_cache(1_024)  # prices are few: nearly every answer says one that was said before
def format_usd(micro: int) -> str:
    """Dollars as a plain decimal number: no exponent, no trailing zeros, at least "0"."""
    sign = "-" if micro < 0 else ""
    whole, rest = divmod(abs(micro), MICRO)
    decimals = f".{rest:06d}".rstrip("0").rstrip(".")
    return f"{sign}{whole}{decimals}"
