"""The error of a configuration that cannot be used, and hints at misspelt names."""

import difflib
from collections.abc import Iterable, Sequence

from gateway.core.faults import Fault

_COMPARED = 64
"""Characters of a name that are compared."""


class ConfigError(Exception):
    """A configuration that cannot be used, with all of its faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = list(faults)


def did_you_mean(name: str, known: Iterable[str], *, after: str = "") -> str:
    """End a message about an unknown name with the closest known name, if any is close.

    With `after`, only the known names that start with this prefix count, and the prefix is not
    compared.
    """
    ends = [other.removeprefix(after) for other in known if other.startswith(after)]
    close = difflib.get_close_matches(name.removeprefix(after)[:_COMPARED], ends, n=1)
    return f"; did you mean '{after}{close[0]}'?" if close else ""
