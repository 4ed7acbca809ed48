"""Keys in the admin API. Only the answer that creates a key contains its text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from msgspec import UNSET, Meta, Struct
from msgspec.structs import asdict

from gateway.config.values import TeamLimits, limit_values, limits_of
from gateway.core.admin_errors import Conflicting, NoSuchThing
from gateway.core.bounds import Text
from gateway.core.key_format import parse_duration
from gateway.core.model import Key, KeyState
from gateway.core.tasks import in_turns
from gateway.tenants import operations
from gateway.tenants.operations import KeyChange
from gateway.tenants.store import DirectoryStore
from gateway.tenants.views import KeyView, key_view
from gateway.web.admin.http import AdminRequest, AdminRoute, read_fields, read_json

ALL = "/keys"
ONE = "/keys/{id}"

_KNOWN = (NoSuchThing,)
_CHANGEABLE = (NoSuchThing, Conflicting)


def _name(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not printable")
    return text.strip()


_DURATION = "a whole number with its unit s, m, h or d, such as 90d"

_PATTERN = {"pattern": "^[0-9]{1,6}[smhd]$"}

Lifetime = Annotated[
    str,
    Meta(description=_DURATION, extra={"check": parse_duration}, extra_json_schema=_PATTERN),
]
Grace = Annotated[
    str,
    Meta(
        description=f"{_DURATION}, or 0s for no longer",
        extra={"check": partial(parse_duration, none=True)},
        extra_json_schema=_PATTERN,
    ),
]
KeyName = Annotated[
    str, Meta(max_length=100, description="at most 100 printable characters", extra={"read": _name})
]


class KeyPatch(Struct, frozen=True, kw_only=True):
    """Changes to a key. Fields and limits that are left out stay.

    `expires` counts from now, null means never. A null limit removes that limit.
    """

    name: KeyName = ""
    expires: Lifetime | None = None
    limits: TeamLimits = TeamLimits()


class NewKey(KeyPatch, frozen=True, kw_only=True):
    """A key to create. Without `expires` it never expires."""

    team: Text


class Rotation(Struct, frozen=True, kw_only=True):
    """How long the old key still works."""

    grace: Grace = "24h"


class CreatedKey(KeyView, frozen=True, kw_only=True):
    """A new key with its text. No later answer contains the text."""

    key: str


class RotatedKey(CreatedKey, frozen=True, kw_only=True):
    """The new key with its text, and the old one.

    `grace_in_full` is false if the old key stops before the grace is over: because it expires
    earlier, or because an earlier rotation's grace ends earlier.
    """

    replaces: KeyView
    grace_in_full: bool


class KeyList(Struct, frozen=True, kw_only=True):
    """Keys, by team, the oldest first."""

    keys: list[KeyView]


class KeysQuery(Struct, frozen=True, kw_only=True):
    """The team whose keys to list; without it, all keys."""

    team: Text | None = None


@dataclass(frozen=True)
class AdminKeys:
    """The routes of keys. `pepper` is the secret of the keys' digests."""

    store: DirectoryStore
    pepper: bytes

    @AdminRoute("GET", ALL, "List keys", query=KeysQuery, errors=_KNOWN)
    async def _list(self, call: AdminRequest) -> KeyList:
        found = await operations.list_keys(self.store, call.query.team)
        return KeyList(keys=await self._views(found, call))

    @AdminRoute("GET", ONE, "Show one key", errors=_KNOWN)
    async def _get(self, call: AdminRequest) -> KeyView:
        return await self._view(await operations.find_key(self.store, call.params["id"]), call)

    @AdminRoute(
        "POST",
        ALL,
        "Create a key",
        body=NewKey,
        status=201,
        errors=_KNOWN,
        example={"team": "design", "name": "Web shop", "expires": "90d"},
    )
    async def _create(self, call: AdminRequest) -> CreatedKey:
        wanted = read_fields(await read_json(call), NewKey)
        key, text = await operations.create_key(
            self.store,
            team=wanted.team,
            name=wanted.name,
            lifetime=None if wanted.expires is None else parse_duration(wanted.expires),
            pepper=self.pepper,
            by=call.by,
            limits=limits_of(asdict(wanted.limits)),
        )
        return CreatedKey(**asdict(key_view(key, call.by.now)), key=text)

    @AdminRoute(
        "PATCH",
        ONE,
        "Change a key's name or expiry, or the limits of its line",
        body=KeyPatch,
        errors=_CHANGEABLE,
        example={"limits": {"images_per_day": 20}},
    )
    async def _patch(self, call: AdminRequest) -> KeyView:
        body = await read_json(call)
        if "limits" in body and body["limits"] is None:
            body["limits"] = dict.fromkeys(TeamLimits.__struct_fields__)
        wanted = read_fields(body, KeyPatch)
        limits = {name: getattr(wanted.limits, name) for name in body.get("limits", ())}
        lifetime = None if wanted.expires is None else parse_duration(wanted.expires)
        change = KeyChange(
            name=wanted.name if "name" in body else None,
            lifetime=lifetime if "expires" in body else UNSET,
            limits=limit_values(limits),
        )
        key = await operations.change_key(self.store, call.params["id"], change, call.by)
        return await self._view(key, call)

    @AdminRoute(
        "POST",
        f"{ONE}/rotate",
        "Replace a key by a new one",
        body=Rotation,
        status=201,
        errors=_CHANGEABLE,
        example={"grace": "24h"},
    )
    async def _rotate(self, call: AdminRequest) -> RotatedKey:
        wanted = read_fields(await read_json(call), Rotation)
        done = await operations.rotate_key(
            self.store,
            call.params["id"],
            grace=parse_duration(wanted.grace, none=True),
            pepper=self.pepper,
            by=call.by,
        )
        return RotatedKey(
            **asdict(key_view(done.new, call.by.now)),
            key=done.text,
            replaces=await self._view(done.old, call),
            grace_in_full=done.grace_in_full,
        )

    @AdminRoute(
        "POST", f"{ONE}/disable", "Disable a key until it is enabled again", errors=_CHANGEABLE
    )
    async def _disable(self, call: AdminRequest) -> KeyView:
        return await self._set_state(call, "disabled")

    @AdminRoute("POST", f"{ONE}/enable", "Enable a disabled key", errors=_CHANGEABLE)
    async def _enable(self, call: AdminRequest) -> KeyView:
        return await self._set_state(call, "active")

    @AdminRoute("POST", f"{ONE}/revoke", "Revoke a key permanently", errors=_CHANGEABLE)
    async def _revoke(self, call: AdminRequest) -> KeyView:
        return await self._set_state(call, "revoked")

    async def _set_state(self, call: AdminRequest, state: KeyState) -> KeyView:
        key = await operations.set_key_state(self.store, call.params["id"], state, call.by)
        return await self._view(key, call)

    async def _view(self, key: Key, call: AdminRequest) -> KeyView:
        (view,) = await self._views([key], call)
        return view

    async def _views(self, keys: Sequence[Key], call: AdminRequest) -> list[KeyView]:
        used = await self.store.last_uses()
        return [key_view(key, call.by.now, used.get(key.id)) async for key in in_turns(keys)]
