"""teams.toml into teams, or every reason at once why not.

Only `gateway teams apply` reads it: the store is the truth about teams. All options may be left
out; then the team may use all that the models offer, without limits.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.config.errors import ConfigError, Place, did_you_mean
from gateway.config.models import Model, Quality
from gateway.config.options import options_of, read_table
from gateway.config.settings import TeamLimits, limits_of
from gateway.config.toml import parse_toml
from gateway.core.model import Team

TEAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "a team's name has 1 to 64 letters, digits and . _ - and starts with no mark"


class TeamOptions(Struct, frozen=True, kw_only=True):
    """What stands in a [teams.NAME], as it is written."""

    models: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    sizes: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    qualities: Annotated[tuple[Quality, ...], Meta(min_length=1)] | None = None
    max_n: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    cache: bool = True


_OPTIONS = options_of(TeamOptions)
_LIMITS = options_of(TeamLimits)


def read_teams(
    text: str, *, models: Mapping[str, Model] | None, place: str = "config/teams.toml"
) -> list[Team]:
    """The teams in the order they stand. Raises ConfigError with every fault.

    Without `models` nothing is said about what they offer.
    """
    tables, file, faults = parse_toml(text, place), Place(place), list[str]()
    for name in tables.keys() - {"teams"}:
        hint = did_you_mean(name, ["teams"])
        faults.append(f"{file.option(name)}: only [teams.NAME] stands here{hint}")
    teams = list(_read_all(tables.get("teams", {}), file.table("teams"), models, faults))
    if faults:
        raise ConfigError(faults)
    return teams


def read_team(name: str, table: object, *, models: Mapping[str, Model], place: Place) -> Team:
    """One team from a table of options, wherever it came from. Raises ConfigError."""
    faults = list[str]()
    team = _read_team(name, table, place, faults)
    faults.extend(_not_offered(team, models, place))
    if faults:
        raise ConfigError(faults)
    return team


def _read_all(
    table: object, place: Place, models: Mapping[str, Model] | None, faults: list[str]
) -> Iterator[Team]:
    if not isinstance(table, dict):
        faults.append(f"{place}: must be a table")
        return
    for name, options in table.items():
        team = _read_team(name, options, place.table(name), faults)
        if models is not None:
            faults.extend(_not_offered(team, models, place.table(name)))
        yield team


def _read_team(name: str, table: object, place: Place, faults: list[str]) -> Team:
    if not TEAM_NAME.fullmatch(name):
        faults.append(f"{place}: {_NAME_RULE}")
    values = read_table(table, _OPTIONS, place, faults, tables=("limits",))
    limits: Any = table.get("limits", {}) if isinstance(table, dict) else {}
    limits = read_table(limits, _LIMITS, place.table("limits"), faults)
    return Team(name=name, limits=limits_of(limits), **values)


def _not_offered(team: Team, models: Mapping[str, Model], place: Place) -> Iterator[str]:
    """What the policy names and none of the team's models has. Items are told by position."""
    for position, name in enumerate(team.models or (), start=1):
        if name not in models:
            hint = did_you_mean(name, models)
            yield f"{place.option('models')}: item {position} is no configured model{hint}"
    offered = [models[name] for name in team.models or models if name in models]
    for position, size in enumerate(team.sizes or (), start=1):
        if offered and all(model.sizes.problem(size) for model in offered):
            yield f"{place.option('sizes')}: item {position} is drawn by none of its models"
