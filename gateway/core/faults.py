"""Faults of an input as data: where each is, and what is wrong there.

Readers collect all faults of a file, of the environment or of a request body. Only the command
line, the log and the admin API turn them into text. A message never repeats a value, because a
wrong value may be a secret in the wrong place.
"""

import difflib
import json
import re
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.bounds import MOST_SHOWN
from gateway.core.errors import InvalidRequest

ENVIRONMENT = "environment"
COMMAND_LINE = "command line"
BODY = "body"
DEFAULT = "default"
"""The source of an option that neither a file nor the environment sets."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 128
"""Characters of a name that are shown."""
_COMPARED = 64
"""Characters of a name that are compared with the known names."""


class Fault(Struct, frozen=True):
    """One thing that is wrong. `path` has the names of the tables and the option, outermost first.

    `source` is the file, `ENVIRONMENT`, `COMMAND_LINE`, `DEFAULT` or `BODY`; "" for a query.
    """

    path: tuple[str, ...]
    message: str
    source: str = ""

    @property
    def place(self) -> str:
        """The source and the option, such as `config/gateway.toml: [server] port`."""
        names = [shown(name) for name in self.path]
        if self.source in (ENVIRONMENT, COMMAND_LINE):
            return " ".join([self.source, *names])
        option = names.pop() if len(names) > 1 else ""
        table = f"[{'.'.join(names)}]" if names else ""
        return ": ".join(filter(None, [self.source, f"{table} {option}".strip()]))

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Faults(Struct, frozen=True):
    """Collects the faults of one source. `at` is the same collection, one or more tables deeper."""

    source: str = ""
    path: tuple[str, ...] = ()
    found: list[Fault] = []

    def at(self, *names: str) -> "Faults":
        """Collect into the same list, below the tables of these names."""
        return Faults(self.source, (*self.path, *names), self.found)

    def add(self, message: str, *names: str) -> None:
        """Add a fault of this table, or of the option below it that `names` lead to."""
        self.found.append(Fault((*self.path, *names), message, self.source))

    def __len__(self) -> int:
        return len(self.found)


class ConfigError(Exception):
    """A configuration that cannot be used, with all of its faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = list(faults)


class InvalidFields(InvalidRequest):
    """Fields of the request are wrong. `param` is the first of them, `faults` has all."""

    code = "invalid_fields"

    def __init__(self, faults: Sequence[Fault]) -> None:
        # A client chose the names of unknown fields: they are escaped, and cut to a length.
        self.faults = [replace(fault, path=tuple(map(_escaped, fault.path))) for fault in faults]
        lines = [(fault.source, ".".join(fault.path), fault.message) for fault in self.faults]
        shown = [": ".join(filter(None, line)) for line in lines[:MOST_SHOWN]]
        if len(lines) > MOST_SHOWN:
            shown.append(f"and {len(lines) - MOST_SHOWN} more faults")
        super().__init__(f"{'; '.join(shown)}.", param=lines[0][1])


def _escaped(name: str) -> str:
    return name[:64].encode("unicode_escape").decode()


class InvalidValue(ValueError):
    """Says why a value is invalid, without repeating any of it."""


def shown(name: str) -> str:
    """A name as TOML writes it: quoted and escaped unless it is a bare key."""
    name = name[:_SHOWN]
    return name if _BARE.fullmatch(name) else json.dumps(name)


def did_you_mean(name: str, known: Iterable[str], *, after: str = "") -> str:
    """End a message about an unknown name with the closest known name, if any is close.

    With `after`, only the known names that start with this prefix count, and the prefix is not
    compared.
    """
    ends = [other.removeprefix(after) for other in known if other.startswith(after)]
    close = difflib.get_close_matches(name.removeprefix(after)[:_COMPARED], ends, n=1)
    return f"; did you mean '{after}{close[0]}'?" if close else ""
