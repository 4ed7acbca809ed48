"""How a configuration's faults are told: all at once, each with its place, none with a value.

A wrong value may be a secret in the wrong place, so only names of options and tables are shown,
and those with anything unprintable escaped.
"""

import difflib
import json
import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 64
"""Characters of a name that are shown and compared."""


class ConfigError(Exception):
    """A configuration that cannot be used. `faults` has one line for each reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class Place(Struct, frozen=True):
    """A table of a configuration file."""

    file: str
    path: tuple[str, ...] = ()

    def table(self, name: str) -> "Place":
        """The place of a table inside this one."""
        return Place(self.file, (*self.path, name))

    def option(self, name: str) -> str:
        """An option of this table: `config/gateway.toml: [server] port`."""
        return f"{self} {shown(name)}" if self.path else f"{self.file}: {shown(name)}"

    def __str__(self) -> str:
        return f"{self.file}: [{'.'.join(shown(name) for name in self.path)}]"


def shown(name: str) -> str:
    """A name as TOML writes it: quoted and escaped where it is not a bare one."""
    name = name[:_SHOWN]
    return name if _BARE.fullmatch(name) else json.dumps(name)


def did_you_mean(name: str, known: Iterable[str], *, after: str = "") -> str:
    """The end of a message about an unknown name: the known one closest to it, if any is close.

    Only what follows the prefix `after`, which all of them have, is compared.
    """
    ends = [other.removeprefix(after) for other in known if other.startswith(after)]
    close = difflib.get_close_matches(name.removeprefix(after)[:_SHOWN], ends, n=1)
    return f"; did you mean '{after}{close[0]}'?" if close else ""
