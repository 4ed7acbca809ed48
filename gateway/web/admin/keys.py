"""Keys in the admin API. A new key's text is in the answer that makes it, and nowhere else."""

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from aiohttp import web
from msgspec import UNSET, Meta, Struct
from msgspec.structs import asdict

from gateway.config.settings import TeamLimits, limit_values, limits_of
from gateway.core.key_format import parse_duration
from gateway.core.listing import Listing
from gateway.core.model import Key, KeyState
from gateway.stores.port import Store
from gateway.tenants import operations
from gateway.tenants.operations import KeyChange
from gateway.tenants.views import key_listing
from gateway.web.admin.routes import Asked, Route, answer, read_body, read_fields
from gateway.web.admin.teams import LimitsPage


def _lifetime(text: str | None) -> str | None:
    if text is not None:
        parse_duration(text)
    return text


def _grace(text: str) -> str:
    parse_duration(text, none=True)
    return text


def _name(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not printable")
    return text.strip()


_DURATION = "a whole number with its unit s, m, h or d, such as 90d"

Lifetime = Annotated[str, Meta(description=_DURATION, extra={"read": _lifetime})]
Grace = Annotated[
    str, Meta(description=f"{_DURATION}, or 0s for no longer", extra={"read": _grace})
]
KeyName = Annotated[
    str, Meta(max_length=100, description="at most 100 printable characters", extra={"read": _name})
]


class NewKey(Struct, frozen=True, kw_only=True):
    """A key that is to be made. Without `expires` it works for ever."""

    team: str
    name: KeyName = ""
    expires: Lifetime | None = None
    limits: TeamLimits = TeamLimits()


class KeyPatch(Struct, frozen=True, kw_only=True):
    """What is to be changed of a key. `expires` is counted from now on, null is never; a limit
    that is null is taken away, one that is left out stays.
    """

    name: KeyName = ""
    expires: Lifetime | None = None
    limits: TeamLimits = TeamLimits()


class Rotation(Struct, frozen=True, kw_only=True):
    """How long the old key still works."""

    grace: Grace = "24h"


class KeyPage(Struct, frozen=True, kw_only=True):
    """A key as it is, by its public id. Usage is shown under `line`."""

    id: str
    team: str
    name: str
    state: Literal["active", "disabled", "revoked", "expired", "retiring"]
    limits: LimitsPage
    created: str
    expires: str | None
    grace_ends: str | None
    last_used: str | None
    line: str


class MadeKey(KeyPage, frozen=True, kw_only=True):
    """A key that was just made, with its text: nothing can show that again."""

    key: str


class RotatedKey(MadeKey, frozen=True, kw_only=True):
    """The new key with its text, and what became of the old one. `grace_in_full` is false where
    that ends before the grace is over: by itself, or since it was replaced before.
    """

    replaces: KeyPage
    grace_in_full: bool


class KeysPage(Struct, frozen=True, kw_only=True):
    """Keys, by team, the oldest first."""

    keys: list[KeyPage]


class KeysQuery(Struct, frozen=True, kw_only=True):
    """Which keys are listed: one team's, or all."""

    team: str | None = None


class AdminKeys:
    """The routes over keys. `pepper` is what digests are made with."""

    def __init__(self, store: Store, pepper: bytes) -> None:
        self._store = store
        self._pepper = pepper

    def routes(self) -> list[Route]:
        """All of them."""
        one = "/admin/v1/keys/{id}"
        states: Sequence[tuple[str, KeyState, str]] = (
            ("disable", "disabled", "Stop a key until it is enabled"),
            ("enable", "active", "Let a disabled key work again"),
            ("revoke", "revoked", "Stop a key for good"),
        )
        return [
            Route(
                method="GET",
                path="/admin/v1/keys",
                summary="Keys",
                handler=self._list,
                query=KeysQuery,
                answer=KeysPage,
                statuses=(404,),
            ),
            Route(
                method="POST",
                path="/admin/v1/keys",
                summary="Make a key",
                handler=self._create,
                body=NewKey,
                example={"team": "design", "name": "Web shop", "expires": "90d"},
                answer=MadeKey,
                status=201,
                statuses=(404,),
            ),
            Route(
                method="GET",
                path=one,
                summary="One key",
                handler=self._get,
                answer=KeyPage,
                statuses=(404,),
            ),
            Route(
                method="PATCH",
                path=one,
                summary="Change a key's name or end, or the limits of its line",
                handler=self._patch,
                body=KeyPatch,
                example={"limits": {"images_per_day": 20}},
                answer=KeyPage,
                statuses=(404, 409),
            ),
            Route(
                method="POST",
                path=f"{one}/rotate",
                summary="Replace a key by a new one",
                handler=self._rotate,
                body=Rotation,
                example={"grace": "24h"},
                answer=RotatedKey,
                status=201,
                statuses=(404, 409),
            ),
            *(
                Route(
                    method="POST",
                    path=f"{one}/{action}",
                    summary=summary,
                    handler=self._setting(state),
                    answer=KeyPage,
                    statuses=(404, 409),
                )
                for action, state, summary in states
            ),
        ]

    async def _list(self, asked: Asked) -> web.Response:
        found = await operations.list_keys(self._store.directory, asked.query.team)
        used = await self._store.directory.last_uses()
        now = asked.by.now
        return answer({"keys": [key_listing(key, now, used.get(key.id)) for key in found]})

    async def _get(self, asked: Asked) -> web.Response:
        return await self._shown(
            await operations.find_key(self._store.directory, asked.path["id"]), asked
        )

    async def _create(self, asked: Asked) -> web.Response:
        wanted = read_fields(await read_body(asked.request), NewKey, limits=TeamLimits)
        key, text = await operations.create_key(
            self._store.directory,
            team=wanted.team,
            name=wanted.name,
            lifetime=None if wanted.expires is None else parse_duration(wanted.expires),
            pepper=self._pepper,
            by=asked.by,
            entropy=secrets.token_bytes,
            limits=limits_of(asdict(wanted.limits)),
        )
        return answer({**key_listing(key, asked.by.now, None), "key": text}, 201)

    async def _patch(self, asked: Asked) -> web.Response:
        body = await read_body(asked.request)
        if "limits" in body and body["limits"] is None:
            body["limits"] = dict.fromkeys(TeamLimits.__struct_fields__)
        wanted = read_fields(body, KeyPatch, limits=TeamLimits)
        limits = {name: getattr(wanted.limits, name) for name in body.get("limits", ())}
        lifetime = None if wanted.expires is None else parse_duration(wanted.expires)
        change = KeyChange(
            name=wanted.name if "name" in body else None,
            lifetime=lifetime if "expires" in body else UNSET,
            limits=limit_values(limits),
        )
        key = await operations.change_key(self._store.directory, asked.path["id"], change, asked.by)
        return await self._shown(key, asked)

    async def _rotate(self, asked: Asked) -> web.Response:
        wanted = read_fields(await read_body(asked.request), Rotation)
        done = await operations.rotate_key(
            self._store.directory,
            asked.path["id"],
            grace=parse_duration(wanted.grace, none=True),
            pepper=self._pepper,
            by=asked.by,
            entropy=secrets.token_bytes,
        )
        old = await self._listed(done.old, asked)
        new = key_listing(done.new, asked.by.now, None)
        told = {"key": done.text, "replaces": old, "grace_in_full": done.grace_in_full}
        return answer({**new, **told}, 201)

    def _setting(self, state: KeyState) -> Any:
        async def handle(asked: Asked) -> web.Response:
            id = asked.path["id"]
            key = await operations.set_key_state(self._store.directory, id, state, asked.by)
            return await self._shown(key, asked)

        return handle

    async def _shown(self, key: Key, asked: Asked) -> web.Response:
        return answer(await self._listed(key, asked))

    async def _listed(self, key: Key, asked: Asked) -> Listing:
        used = await self._store.directory.last_uses()
        return key_listing(key, asked.by.now, used.get(key.id))
