"""The Lua scripts: read from the files in `scripts/`, and run by their digests.

All but three begin with `begin.lua`, which checks the epoch. The first line declares what a script
needs, so that the server refuses it before it starts, never in the middle: no script runs on a
read-only replica, and none that takes memory runs where memory is full.
"""

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from gateway.stores.redis.client import RedisClient

Argument = str | bytes | int | float

_FOLDER = files("gateway.stores.redis") / "scripts"

_ALWAYS = "#!lua flags=allow-oom\n"
"""For scripts that read or write little: a key can be revoked although memory is full."""

_WITH_ROOM = "#!lua\n"


class Script:
    """One script: a first line and the contents of some files."""

    def __init__(self, first_line: str, *names: str) -> None:
        parts = ((_FOLDER / f"{name}.lua").read_text(encoding="utf-8") for name in names)
        self.text = first_line + "\n".join(parts)
        self._digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

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


def tuples(values: Iterable[Any], size: int) -> Iterable[tuple[Any, ...]]:
    """Split a flat reply, such as alternating fields and values, into tuples of this size."""
    return zip(*[iter(values)] * size, strict=True)


INSPECT = Script("", "inspect")
EPOCH = Script(_ALWAYS, "epoch")
BEGIN_IMPORT = Script(_ALWAYS, "begin_import")

LOAD = Script(_ALWAYS, "begin", "load")
DUE = Script(_ALWAYS, "begin", "due")
WRITTEN = Script(_ALWAYS, "begin", "written")
CHANGES = Script(_ALWAYS, "begin", "changes")
READ = Script(_ALWAYS, "begin", "read")
SUMS = Script(_ALWAYS, "begin", "sums")
PACK = Script(_WITH_ROOM, "begin", "pack")
FORGET_USAGE = Script(_ALWAYS, "begin", "forget_usage")
EXPORT = Script(_ALWAYS, "begin", "export")

SWAP = Script(_WITH_ROOM, "begin", "swap")
COMMIT = Script(_WITH_ROOM, "begin", "commit")
COMMIT_LESS = Script(_ALWAYS, "begin", "commit")
"""The same script for writes that only revoke or delete."""
RECORD_USE = Script(_WITH_ROOM, "begin", "record_use")
WRITE_AUDIT = Script(_WITH_ROOM, "begin", "write_audit")
FORGET_AUDIT = Script(_ALWAYS, "begin", "forget_audit")
CLAIM = Script(_ALWAYS, "begin", "claim")
CLAIMS = Script(_ALWAYS, "begin", "claims")
RESTORE_CLAIM = Script(_WITH_ROOM, "begin", "restore_claim")
WRITE_ACTIVITY = Script(_WITH_ROOM, "begin", "write_activity")
FORGET_ACTIVITY = Script(_ALWAYS, "begin", "forget_activity")
CHECK_VALUE = Script(_ALWAYS, "begin", "check_value")
END_IMPORT = Script(_ALWAYS, "begin", "end_import")
REMOVE = Script(_ALWAYS, "begin", "remove")
