"""Parses TOML text, and describes a syntax error by line and column.

Numbers with a point stay decimals, because money is exact. A number that no decimal can hold
becomes NaN, which no option accepts.
"""

import tomllib
from decimal import Decimal, InvalidOperation
from typing import Any

from gateway.config.errors import ConfigError
from gateway.core.faults import Fault

_AT_END = "at end of document"


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """Return the tables of a TOML text. Raises ConfigError with one fault in `file`."""
    text = text.removeprefix("\ufeff")
    try:
        return tomllib.loads(text, parse_float=_decimal)
    except tomllib.TOMLDecodeError as error:
        message = _syntax_fault(str(error), text)
    except ValueError:
        message = "an integer has too many digits"
    except RecursionError:
        message = "arrays or tables are nested too deeply"
    raise ConfigError([Fault((), message, file)])


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _syntax_fault(message: str, text: str) -> str:
    """Return the parser's message on one line. It repeats at most names and single characters."""
    last_line = text[text.rfind("\n") + 1 :]
    end = f"at line {text.count(chr(10)) + 1}, column {len(last_line) + 1}"
    message = message.replace(_AT_END, end).encode("ascii", "backslashreplace").decode()
    return f"not valid TOML: {message}"
