"""The name of an operation: all requests of a team under it get what the first one got.

A client gives it as an `Idempotency-Key`, of which the store and the caches only know digests. Or
it asks for a 202 (`Prefer: respond-async`), and gets the id of its operation.
"""

import hashlib
import json
from collections.abc import Sequence

from msgspec import Struct

from gateway.core.errors import InvalidRequest

MOST_CHARS = 255
"""The longest `Idempotency-Key`."""

MOST_PREFER_CHARS = 4_096
"""A longer `Prefer` is not read."""

ID_DIGITS = 32


class OperationName(Struct, frozen=True, kw_only=True):
    """A name as a request has it.

    `id` is what a client asks for later. `has_key`: the client itself gave the name. `promised`:
    the client wants to ask later.
    `record` is the name of its record in the store, `answer` that of its answer in the cache, which
    is the team's while its answers have this `scope`. `body` is the digest of the request, and
    `operation` the id that this request claims the name with.
    """

    id: str
    record: str
    answer: str
    scope: str
    body: str
    operation: str = ""
    has_key: bool = True
    promised: bool = False


def read_idempotency_key(values: Sequence[str]) -> str | None:
    """Return the key of the `Idempotency-Key` headers, None without any. Raises InvalidRequest."""
    if not values:
        return None
    key = values[0].strip()
    if len(values) > 1 or not 0 < len(key) <= MOST_CHARS or not key.isprintable():
        raise InvalidRequest(
            f"Send one Idempotency-Key of 1 to {MOST_CHARS} printable characters.",
            code="invalid_idempotency_key",
        )
    return key


def prefers_async(values: Sequence[str]) -> bool:
    """Whether the lines of the header `Prefer` have `respond-async` (RFC 7240, section 4.1)."""
    if sum(map(len, values)) > MOST_PREFER_CHARS:
        return False
    preferences = (part for value in values for part in value.split(","))
    return any(part.split(";")[0].strip().lower() == "respond-async" for part in preferences)


def key_id(key: str) -> str:
    """Return the id of the operation under an `Idempotency-Key`."""
    return hashlib.sha256(key.encode()).hexdigest()[:ID_DIGITS]


def operation_name(id: str, team: str, scope: str, body: str) -> OperationName:
    """Return the name of a team's operation with this id, of a request with this digest.

    After a purge, the team's `scope` is another one, and its answers are not found.
    """
    answer = hashlib.sha256(json.dumps(["operation", team, scope, id]).encode()).hexdigest()
    return OperationName(id=id, record=record_of(id, team), answer=answer, scope=scope, body=body)


def record_of(id: str, team: str) -> str:
    """Return the name of the record of a team's operation with this id."""
    return f"named:{team}:{id}"
