"""Teams in the admin API: their limits and policies.

A team's ETag is made of what it looks like. PUT, PATCH and DELETE with If-Match are done only if
it still looks so (RFC 9110, section 13.1.1): two admins cannot overwrite each other unseen.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct, json

from gateway.config.models import Model
from gateway.config.settings import TeamLimits
from gateway.config.teams_file import TEAM_NAME, TeamOptions, check_team_name, read_team
from gateway.core.errors import Conflicting, InvalidRequest, NoSuchThing, PreconditionFailed
from gateway.core.faults import BODY, Faults
from gateway.core.listing import Listing
from gateway.core.model import Team
from gateway.stores.port import Store
from gateway.tenants import operations
from gateway.tenants.views import team_listing
from gateway.web.admin.routes import Asked, Handler, Route, answer, read_body, refuse

ALL = "/admin/v1/teams"
ONE = "/admin/v1/teams/{team}"

_UNNAMED = "unnamed"
"""Stands for the name that a body lacks, so that its other faults are told too."""


TeamName = Annotated[str, Meta(pattern=rf"\A{TEAM_NAME.pattern}\Z")]


class TeamBody(TeamOptions, frozen=True, kw_only=True):
    """A team as it is to be. What is left out or null is not restricted. `team`, where it is told,
    is the path's.
    """

    team: TeamName | None = None
    limits: TeamLimits = TeamLimits()


class NewTeam(TeamOptions, frozen=True, kw_only=True):
    """A team that is to be made."""

    limits: TeamLimits = TeamLimits()

    team: TeamName


class TeamPage(Struct, frozen=True, kw_only=True):
    """A team as it is. None means everything, or no limit."""

    team: str
    models: list[str] | None
    sizes: list[str] | None
    qualities: list[str] | None
    max_n: int | None
    cache: bool
    limits: "LimitsPage"


class LimitsPage(Struct, frozen=True, kw_only=True):
    """The six limits; money is dollars as decimal text."""

    images_per_day: int | None
    images_per_month: int | None
    cost_per_day_usd: str | None
    cost_per_month_usd: str | None
    requests_per_minute: int | None
    concurrent_requests: int | None


class TeamsPage(Struct, frozen=True, kw_only=True):
    """All teams, by name."""

    teams: list[TeamPage]


class Deleted(Struct, frozen=True, kw_only=True):
    """What was deleted."""

    deleted: str


class AdminTeams:
    """The routes over teams. `models` are those of the configuration in force."""

    def __init__(self, store: Store, models: Callable[[], Mapping[str, Model]]) -> None:
        self._store = store
        self._models = models

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route(
                method="GET",
                path=ALL,
                summary="All teams",
                handler=self._list,
                answer=TeamsPage,
            ),
            Route(
                method="POST",
                path=ALL,
                summary="Make a team",
                handler=self._create,
                body=NewTeam,
                example={"team": "design", "limits": {"images_per_day": 200}},
                answer=TeamPage,
                status=201,
                statuses=(409,),
            ),
            Route(
                method="GET",
                path=ONE,
                summary="One team",
                handler=self._get,
                answer=TeamPage,
                statuses=(404,),
            ),
            _changing("PUT", "Make a team (201) or replace it whole", self._put),
            _changing("PATCH", "Change the named fields of a team", self._patch),
            Route(
                method="DELETE",
                path=ONE,
                summary="Delete a team and revoke its keys; its history stays",
                handler=self._delete,
                answer=Deleted,
                statuses=(404, 412),
                conditional=True,
            ),
        ]

    async def _list(self, asked: Asked) -> web.Response:
        teams = await operations.list_teams(self._store.directory)
        return answer({"teams": [team_listing(team) for team in teams]})

    async def _get(self, asked: Asked) -> web.Response:
        return _shown(await operations.find_team(self._store.directory, asked.path["team"]))

    async def _create(self, asked: Asked) -> web.Response:
        body = await read_body(asked.request)
        name, faults = body.pop("team", None), Faults(BODY)
        if not isinstance(name, str):
            faults.add("is needed" if name is None else "must be text", "team")
            name = _UNNAMED
        wanted = self._read(name, body, faults)

        def change(before: Team | None) -> Team:
            if before is not None:
                raise Conflicting("There is such a team already.", param="team")
            return wanted

        await operations.change_team(self._store.directory, wanted.name, change, asked.by)
        return _shown(wanted, 201, {"Location": f"/admin/v1/teams/{wanted.name}"})

    async def _put(self, asked: Asked) -> web.Response:
        body = await read_body(asked.request)
        faults = _misnamed(asked, body)
        wanted = self._read(asked.path["team"], body, faults)

        def change(before: Team | None) -> Team:
            _check_match(asked.request, before)
            return wanted

        before, _ = await operations.change_team(
            self._store.directory, wanted.name, change, asked.by
        )
        return _shown(wanted, 201 if before is None else 200)

    async def _patch(self, asked: Asked) -> web.Response:
        patch = await read_body(asked.request)
        faults = _misnamed(asked, patch)

        def change(before: Team | None) -> Team:
            known = _there(before)
            _check_match(asked.request, known)
            return self._read(known.name, _patched(team_listing(known), patch), faults)

        _, after = await operations.change_team(
            self._store.directory, asked.path["team"], change, asked.by
        )
        return _shown(_there(after))

    async def _delete(self, asked: Asked) -> web.Response:
        def change(before: Team | None) -> None:
            _check_match(asked.request, _there(before))

        await operations.change_team(self._store.directory, asked.path["team"], change, asked.by)
        return answer({"deleted": asked.path["team"]})

    def _read(self, name: str, body: Listing, faults: Faults) -> Team:
        """Return the team that a body describes. Raises InvalidRequest if there are `faults`."""
        check_team_name(name, faults.at("team"))
        team = read_team(name, body, models=self._models(), faults=faults)
        refuse(faults.found)
        return team


def _misnamed(asked: Asked, body: dict[str, Any]) -> Faults:
    """Take the name out of a body; it is a fault if it differs from the path's."""
    faults, name = Faults(BODY), asked.path["team"]
    if body.pop("team", name) != name:
        faults.add("is not the team of the path, and cannot be changed", "team")
    return faults


def _changing(method: str, summary: str, handler: Handler) -> Route:
    return Route(
        method=method,
        path=ONE,
        summary=summary,
        handler=handler,
        body=TeamBody,
        example={"max_n": 4, "limits": {"images_per_day": 300}},
        answer=TeamPage,
        statuses=(404, 412),
        conditional=True,
    )


def _shown(team: Team, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return answer(team_listing(team), status, {"ETag": etag(team), **(headers or {})})


def etag(team: Team) -> str:
    """The entity tag of a team as it is."""
    digest = hashlib.sha256(json.encode(team_listing(team))).hexdigest()
    return f'"{digest[:32]}"'


def _check_match(request: web.BaseRequest, team: Team | None) -> None:
    """Raise PreconditionFailed unless If-Match, where it is sent, names the team as it is."""
    values = request.headers.getall("If-Match", ())
    if not values:
        return
    named = [value.strip() for line in values for value in line.split(",")]
    if team is None or ("*" not in named and etag(team) not in named):
        raise PreconditionFailed("The team is not what If-Match says: read it again.")


def _there(team: Team | None) -> Team:
    if team is None:
        raise NoSuchThing("There is no such team.", param="team")
    return team


def _patched(before: Listing, patch: Mapping[str, Any]) -> Listing:
    """The patch over what was before (RFC 7396); a null takes a restriction away."""
    merged = {name: value for name, value in before.items() if name != "team"} | dict(patch)
    if isinstance(patch.get("limits"), dict):
        merged["limits"] = before["limits"] | patch["limits"]
    elif "limits" in patch and patch["limits"] is None:
        merged["limits"] = {}
    if merged.get("cache") is None:
        raise InvalidRequest("body: cache: must be true or false.", param="cache")
    return merged
