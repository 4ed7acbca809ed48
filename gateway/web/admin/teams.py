"""Teams in the admin API: their limits and policies.

A team's ETag is a digest of its public form. PUT, PATCH and DELETE with If-Match only succeed while
the team still has this ETag (RFC 9110, section 13.1.1), so that two admins cannot overwrite each
other unseen.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct, json

from gateway.config.live import CurrentSettings
from gateway.config.teams_file import TeamOptions, check_team_name, read_team
from gateway.config.values import NAME
from gateway.core.admin_errors import Conflicting, NoSuchThing, PreconditionFailed
from gateway.core.errors import InvalidRequest
from gateway.core.faults import BODY, Faults
from gateway.core.listing import Listing, listing
from gateway.core.model import Team
from gateway.tenants import operations
from gateway.tenants.store import DirectoryStore
from gateway.web.admin.http import API, AdminRequest, AdminRoute, answer, read_json
from gateway.web.query import refuse

ALL = "/teams"
ONE = "/teams/{team}"

_IF_MATCH = {"If-Match": "Do it only if the team still has this ETag."}
_CONDITIONAL = (NoSuchThing, PreconditionFailed)
_UNNAMED = "unnamed"
"""Stands in for a missing name, so that the body's other faults are reported too."""


TeamName = Annotated[str, Meta(pattern=rf"\A{NAME.pattern}\Z")]


class TeamBody(TeamOptions, frozen=True, kw_only=True):
    """A team's policy and limits. A field that is absent or null restricts nothing.

    `team`, if present, must be the team in the path.
    """

    team: TeamName | None = None


class NewTeam(TeamOptions, frozen=True, kw_only=True):
    """A team to create."""

    team: TeamName


_CHANGE: dict[str, Any] = {
    "response": Team,
    "body": TeamBody,
    "errors": _CONDITIONAL,
    "headers": _IF_MATCH,
    "example": {"max_n": 4, "limits": {"images_per_day": 300}},
}


class TeamList(Struct, frozen=True, kw_only=True):
    """All teams, by name."""

    teams: list[Team]


class DeletedTeam(Struct, frozen=True, kw_only=True):
    """The name of the deleted team."""

    deleted: str


@dataclass(frozen=True)
class AdminTeams:
    """The routes of teams."""

    store: DirectoryStore
    settings: CurrentSettings

    @AdminRoute("GET", ALL, "List all teams")
    async def _list(self, call: AdminRequest) -> TeamList:
        return TeamList(teams=await operations.list_teams(self.store))

    @AdminRoute("GET", ONE, "Show one team", response=Team, errors=(NoSuchThing,))
    async def _get(self, call: AdminRequest) -> web.Response:
        return _answer(listing(await operations.find_team(self.store, call.params["team"])))

    @AdminRoute(
        "POST",
        ALL,
        "Create a team",
        response=Team,
        body=NewTeam,
        status=201,
        errors=(Conflicting,),
        example={"team": "design", "limits": {"images_per_day": 200}},
    )
    async def _create(self, call: AdminRequest) -> web.Response:
        body = await read_json(call)
        name, faults = body.pop("team", None), Faults(BODY)
        if not isinstance(name, str):
            faults.add("is needed" if name is None else "must be text", "team")
            name = _UNNAMED
        wanted = self._read(name, body, faults)

        def create(before: Listing | None) -> Team:
            if before is not None:
                raise Conflicting("There is already a team of this name.", param="team")
            return wanted

        done = await operations.change_team(self.store, wanted.name, create, call.by)
        location = {"Location": f"{API}{ALL}/{wanted.name}"}
        return _answer(_existing(done.after), 201, location)

    @AdminRoute("PUT", ONE, "Create a team (201) or replace it whole", **_CHANGE)
    async def _put(self, call: AdminRequest) -> web.Response:
        body = await read_json(call)
        wanted = self._read(call.params["team"], body, _misnamed(call, body))

        def replace(before: Listing | None) -> Team:
            _check_match(call.request, before)
            return wanted

        done = await operations.change_team(self.store, wanted.name, replace, call.by)
        return _answer(_existing(done.after), 201 if done.before is None else 200)

    @AdminRoute("PATCH", ONE, "Change fields of a team", **_CHANGE)
    async def _patch(self, call: AdminRequest) -> web.Response:
        patch = await read_json(call)
        faults = _misnamed(call, patch)

        def change(before: Listing | None) -> Team:
            known = _existing(before)
            _check_match(call.request, known)
            return self._read(known["team"], _patched(known, patch), faults)

        done = await operations.change_team(self.store, call.params["team"], change, call.by)
        return _answer(_existing(done.after))

    @AdminRoute(
        "DELETE",
        ONE,
        "Delete a team and revoke its keys; its history stays",
        errors=_CONDITIONAL,
        headers=_IF_MATCH,
    )
    async def _delete(self, call: AdminRequest) -> DeletedTeam:
        def delete(before: Listing | None) -> None:
            _check_match(call.request, _existing(before))

        name = call.params["team"]
        await operations.change_team(self.store, name, delete, call.by)
        return DeletedTeam(deleted=name)

    def _read(self, name: str, body: Listing, faults: Faults) -> Team:
        """Read a team from a body that has these faults already. Raises InvalidRequest."""
        check_team_name(name, faults.at("team"))
        now = self.settings()
        team = read_team(name, body, models=now.models, has_urls=now.has_urls, faults=faults)
        refuse(faults.found)
        return team


def _misnamed(call: AdminRequest, body: Listing) -> Faults:
    """Remove the name from a body. It is a fault if it is not the name in the path."""
    faults, name = Faults(BODY), call.params["team"]
    if body.pop("team", name) != name:
        faults.add("is not the team of the path, and cannot be changed", "team")
    return faults


def _answer(team: Listing, status: int = 200, headers: Mapping[str, str] = {}) -> web.Response:
    return answer(team, status, {"ETag": etag(team), **headers})


def etag(team: Listing) -> str:
    """The entity tag of a team in this state."""
    return f'"{hashlib.sha256(json.encode(team)).hexdigest()[:32]}"'


def _check_match(request: web.BaseRequest, team: Listing | None) -> None:
    """Raise PreconditionFailed unless If-Match is absent or names the team's current state."""
    values = request.headers.getall("If-Match", ())
    if not values:
        return
    tags = [value.strip() for line in values for value in line.split(",")]
    if team is None or ("*" not in tags and etag(team) not in tags):
        raise PreconditionFailed("The team has changed since it was read. Read it again.")


def _existing(team: Listing | None) -> Listing:
    if team is None:
        raise NoSuchThing("There is no such team.", param="team")
    return team


def _patched(before: Listing, patch: Mapping[str, Any]) -> Listing:
    """Merge a patch into a team (RFC 7396): a null removes a restriction."""
    merged = {name: value for name, value in before.items() if name != "team"} | dict(patch)
    if isinstance(patch.get("limits"), dict):
        merged["limits"] = before["limits"] | patch["limits"]
    elif "limits" in patch and patch["limits"] is None:
        merged["limits"] = {}
    if merged.get("cache") is None:
        raise InvalidRequest("body: cache: must be true or false.", param="cache")
    return merged
