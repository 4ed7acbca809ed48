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

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

Argument = str | bytes | int | float

TEXTS = {
    file.name.removesuffix(".lua"): file.read_text(encoding="utf-8")
    for file in (files("gateway.stores.redis") / "scripts").iterdir()
}

_ALLOW_OOM = "#!lua flags=allow-oom"


WAIT_MS = 400
"""How long replicas may take to acknowledge a write. A script that the server does not know yet is
sent twice, and callers wait a second in total."""


WROTE = 1
"""The reply of a script that wrote. Any other reply needs no replica."""


class NotReplicated(RedisError):
    """Too few replicas acknowledged a write in time."""


class Script:
    """One script."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.allows_oom = text.startswith(_ALLOW_OOM)
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self,
        client: Redis,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        replicas: int = 0,
    ) -> Any:
        """Run it once. If it replies WROTE, wait until so many replicas have what it wrote.

        Raises what redis-py raises, and NotReplicated where too few replicas acknowledged in
        time: then this server has written it, and may lose it.

        It sends the text only if the server answers that it does not know the digest: then the
        script has not run. It sends nothing again after any other error or a lost reply.
        """
        rest = (len(keys), *keys, *arguments)
        try:
            return await _sent(client, replicas, "EVALSHA", self._digest, *rest)
        except NoScriptError:
            return await _sent(client, replicas, "EVAL", self.text, *rest)


async def _sent(client: Redis, replicas: int, *command: Argument) -> Any:
    if not replicas:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis has no types here
    # WAIT covers what its own connection has written, so both go over one, in one trip.
    async with client.pipeline(transaction=False) as pipe:
        pipe.execute_command(*command)
        pipe.execute_command("WAIT", replicas, WAIT_MS)
        reply, acknowledged = await pipe.execute(raise_on_error=False)
    for answer in (reply, acknowledged):
        if isinstance(answer, Exception):
            raise answer
    if reply == WROTE and acknowledged < replicas:
        raise NotReplicated(f"{acknowledged} of {replicas} replicas acknowledged a purchase")
    return reply


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
