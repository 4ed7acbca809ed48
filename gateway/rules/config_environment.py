"""Options from environment variables: `GATEWAY_<SECTION>_<NAME>`, each one text.

Numbers may have underscores, true and false any case,
lists are separated by commas or written as in TOML. A misspelt option is a fault where its
section is known; any other GATEWAY_ variable is only warned about, because Kubernetes sets
GATEWAY_PORT and the like for a service called "gateway", and no value is ever shown.
"""

import re
from collections.abc import Collection, Iterable

from msgspec import inspect

from gateway.rules.config_faults import ConfigError, did_you_mean
from gateway.rules.config_options import Option
from gateway.rules.config_text import parse_toml

PREFIX = "GATEWAY_"
READ_ELSEWHERE = frozenset({"GATEWAY_SANDBOX_API_KEY"})
"""Variables of the gateway that stand for no option of the file."""

_KUBERNETES = re.compile(
    r"GATEWAY(_[A-Z]+)?_PORT|.*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)"
)
"""What Kubernetes sets for services called gateway, gateway-store, gateway-cache and so on."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}(_[0-9]{1,40})*", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


def value_of(option: Option, text: str) -> object:
    """The option's value. Raises ValueError, whose text never has the value."""
    return option.convert(_plain(option.kind, text))


def _plain(kind: inspect.Type, text: str) -> object:
    """What TOML would have given for this text; the text itself where it cannot be read."""
    match kind:
        case inspect.BoolType():
            return _BOOLEANS.get(text.strip().lower(), text)
        case inspect.IntType():
            return int(text) if _INTEGER.fullmatch(text.strip()) else text
        case inspect.FloatType():
            return _number(text)
        case inspect.VarTupleType():
            return _list(text)
    return text


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _list(text: str) -> object:
    if not text.strip().startswith("["):
        return [item for item in map(str.strip, text.split(",")) if item]
    try:
        table = parse_toml(f"list = {text}", "")
    except ConfigError:
        return text
    return table["list"] if len(table) == 1 else text


# -- variables that stand for nothing -----------------------------------------------------------


def stray_variables(
    environ: Iterable[str], known: Collection[str], sections: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Faults and warnings about GATEWAY_ variables other than the `known` ones."""
    prefixes = [f"{PREFIX}{section}_".upper() for section in sections]
    faults, warnings = [], []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or name in READ_ELSEWHERE:
            continue
        prefix = next(filter(name.startswith, prefixes), PREFIX)
        foreign = _KUBERNETES.fullmatch(name) is not None
        hint = "" if foreign else did_you_mean(name, known, after=prefix)
        if foreign or prefix == PREFIX:
            warnings.append(f"{variable_place(name)}: no option of the gateway, ignored{hint}")
        else:
            faults.append(f"{variable_place(name)}: no such option{hint}")
    return faults, warnings


def variable_place(name: str) -> str:
    """How a fault names a variable: one with unprintable characters has them escaped."""
    return f"environment {name[:128].encode('unicode_escape').decode()}"
