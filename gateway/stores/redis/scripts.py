"""The Lua scripts: read from the files in `scripts/`, and run by their digests.

The first line of a file declares what the script needs, so that the server refuses it before it
starts, never in the middle: no script runs on a read-only replica, and only those with the flag
`allow-oom` run where memory is full. They read or write little: a key can be revoked then.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from gateway.stores.redis.client import RedisClient

Argument = str | bytes | int | float

TEXTS = {
    file.name.removesuffix(".lua"): file.read_text(encoding="utf-8")
    for file in (files("gateway.stores.redis") / "scripts").iterdir()
}

_ALLOW_OOM = "#!lua flags=allow-oom"


class Script:
    """One script."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self, client: RedisClient, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Any:
        """Run it once. Raises what redis-py raises.

        It sends the text only if the server answers that it does not know the digest: then the
        script has not run. It sends nothing again after any other error or a lost reply.
        """
        rest = (len(keys), *keys, *arguments)
        try:
            return await client.execute_command("EVALSHA", self._digest, *rest)
        except NoScriptError:
            return await client.execute_command("EVAL", self.text, *rest)


@cache
def script(name: str, *, checks_epoch: bool = True, allow_oom: bool = False) -> Script:
    """Return the script of this name.

    One that checks the epoch begins with `begin.lua`. With `allow_oom` it runs where memory is
    full, whatever its file declares.
    """
    first_line, rest = TEXTS[name].split("\n", 1)
    begin = TEXTS["begin"] if checks_epoch else ""
    return Script("\n".join((_ALLOW_OOM if allow_oom else first_line, begin, rest)))


def tuples(values: Iterable[Any], size: int) -> Iterable[tuple[Any, ...]]:
    """Split a flat reply, such as alternating fields and values, into tuples of this size."""
    return zip(*[iter(values)] * size, strict=True)
