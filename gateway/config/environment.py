"""Reads options from environment variables: `GATEWAY_<SECTION>_<NAME>`.

Numbers may have underscores, true and false may have any case, and a list is separated by commas
or written as in TOML. A misspelt option of a section is a fault. A variable of no section is only
a warning, because another program may have set it. No message shows a value.

Kubernetes sets GATEWAY_PORT=tcp://10.0.0.7:80 for a Service called "gateway", and
GATEWAY_SERVER_PORT for one called "gateway-server". Such variables are ignored with a warning.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from msgspec import inspect

from gateway.config.options import Option, parse_toml
from gateway.core.faults import ConfigError, Faults, did_you_mean
from gateway.core.secret import wrapping_fault

PREFIX = "GATEWAY_"
READ_ELSEWHERE = frozenset({"GATEWAY_CONFIG", "GATEWAY_KEY", "GATEWAY_SANDBOX_API_KEY"})
"""Variables of the gateway that are not options of the file."""

_KUBERNETES = re.compile(
    r"GATEWAY(_.+)?_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""The variables that Kubernetes sets for Services called gateway, gateway-store and so on."""
_ADDRESS = re.compile(r"(tcp|udp|sctp)://.+")
"""The value of one more of them: NAME_PORT."""
_INTEGER = re.compile(r"[+-]?[0-9](_?[0-9]){0,39}", re.ASCII)
"""Clients send such numbers, too, in a query. Reading thousands of digits takes long."""
_BOOLEANS = {"true": True, "false": False}


def value_of(option: Option, text: str) -> object:
    """Return the option's value. The ValueError does not repeat the text."""
    if fault := wrapping_fault(text.strip().encode("utf-8", "surrogateescape")):
        raise ValueError(fault)
    return option.convert(_plain(option.kind, text))


def _plain(kind: inspect.Type, text: str) -> object:
    """Return what a TOML parser would return, or the text itself if it cannot be read."""
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


# -- unknown variables --------------------------------------------------------------------------


def set_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set. An empty one counts as not set, and so does a foreign one.

    The newline at the end is dropped: a variable that was made from a file, as from a Kubernetes
    Secret, has one.
    """
    texts = {name: value.rstrip("\r\n") for name, value in environ.items()}
    return {name: text for name, text in texts.items() if text and not _is_foreign(name, text)}


def find_stray_variables(
    environ: Mapping[str, str],
    known: Collection[str],
    sections: Iterable[str],
    faults: Faults,
    warnings: Faults,
) -> None:
    """Add faults and warnings about GATEWAY_ variables other than the `known` ones."""
    prefixes = [f"{PREFIX}{section}_".upper() for section in sections]
    for name in sorted(environ):
        if not (name.startswith(PREFIX) and environ[name]) or name in READ_ELSEWHERE:
            continue
        foreign = _is_foreign(name, environ[name])
        if name in known:
            if foreign:
                warnings.add("ignored: it holds the address of a Kubernetes Service", name)
            continue
        prefix = next(filter(name.startswith, prefixes), None)
        hint = did_you_mean(name, known, after=prefix or PREFIX) or _elsewhere(name, known)
        if foreign:
            warnings.add("not an option of the gateway, ignored", name)
        elif prefix or (hint and _resembles(name, prefixes)):
            faults.add(f"no such option{hint}", name)
        else:
            warnings.add(f"not an option of the gateway, ignored{hint}", name)


def _resembles(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a variable's section is one of these, misspelt.

    Any other variable may belong to another program: clients often use GATEWAY_URL.
    """
    section = name[len(PREFIX) :].partition("_")[0]
    sections = [prefix[len(PREFIX) : -1] for prefix in prefixes]
    return bool(difflib.get_close_matches(section, sections, n=1, cutoff=0.8))


def _is_foreign(name: str, value: str) -> bool:
    """Whether Kubernetes may have set it.

    The GATEWAY_PORT of Kubernetes is a URL; a number there is a mistake for GATEWAY_SERVER_PORT.
    """
    if name.startswith(PREFIX) and name.endswith("_PORT") and _ADDRESS.fullmatch(value):
        return True
    return _KUBERNETES.fullmatch(name) is not None


def _elsewhere(name: str, known: Collection[str]) -> str:
    """Return a hint at the option of this name in another section."""
    end = name.removeprefix(PREFIX.removesuffix("_"))
    found = min((other for other in known if other.endswith(end)), key=len, default=None)
    return "" if found is None else f"; did you mean '{found}'?"
