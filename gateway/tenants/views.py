"""Keys as the APIs, the command line and the audit log show them, with their state at a time."""

from typing import Literal

from msgspec import Struct, convert
from msgspec.structs import replace

from gateway.core.key_format import KeyId
from gateway.core.model import Key, Limits
from gateway.core.periods import Timestamp

State = Literal["active", "disabled", "revoked", "expired", "retiring"]


class KeyView(Struct, frozen=True, kw_only=True):
    """A key, by its public id. Usage reports have it under its `line`.

    `state` is "expired" once the key's time is over, and "retiring" for a replaced key until its
    grace ends. The digest is left out.
    """

    id: KeyId
    team: str
    name: str
    state: State
    limits: Limits
    created: Timestamp
    expires: Timestamp | None
    grace_ends: Timestamp | None
    last_used: Timestamp | None = None
    line: KeyId


def key_view(key: Key, now: float, last_used: float | None = None) -> KeyView:
    """Return a key as it is at `now`."""
    view = convert(key, KeyView, from_attributes=True)
    return replace(view, state=_state(key, now), last_used=last_used)


def has_expired(key: Key, now: float) -> bool:
    """Whether the key's time was over at `now`."""
    return key.ends is not None and key.ends <= now


def _state(key: Key, now: float) -> State:
    if key.state != "revoked" and has_expired(key, now):
        return "expired"
    if key.state == "active" and key.grace_ends is not None:
        return "retiring"
    return key.state
