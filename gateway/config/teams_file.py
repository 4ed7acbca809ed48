"""Reads teams.toml into teams, or finds every fault in it at once.

Only `gateway teams apply` reads the file, because the store holds the teams. All options may be
left out: then the team may use everything that the models offer, without limits.
"""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import asdict

from gateway.config.images import LINKED, NO_LINKS
from gateway.config.models import Model, Quality, find_model
from gateway.config.options import is_table, parse_toml, read_fields
from gateway.config.values import NAME, NAME_RULE, HoldSeconds, TeamLimits, limits_of
from gateway.core.bounds import MOST_ITEMS
from gateway.core.faults import ConfigError, Faults, did_you_mean
from gateway.core.model import Deliver, Team


class TeamOptions(Struct, frozen=True, kw_only=True):
    """A team's policy. Without a value, the team may use everything that the models offer.

    Options:
        models: Models that the team may use.
        sizes: Sizes that the team may request; any other gets 403.
        qualities: Qualities that the team may request; a request without one counts as "auto".
        max_n: Maximum images per request.
        cache: false turns the cache off for this team.
        deliver: Form in which the team's clients get pictures; by default that of [images].
        unknown_hold_seconds: Seconds for which a repeat is refused after an unknown charge; by
            default that of [upstream].
    """

    models: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MOST_ITEMS)] | None = None
    sizes: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MOST_ITEMS)] | None = None
    qualities: Annotated[tuple[Quality, ...], Meta(min_length=1, max_length=MOST_ITEMS)] | None = (
        None
    )
    max_n: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    cache: bool = True
    deliver: Deliver | None = None
    unknown_hold_seconds: HoldSeconds | None = None
    limits: TeamLimits = TeamLimits()


def read_teams(
    text: str,
    *,
    models: Mapping[str, Model] | None,
    has_urls: bool = True,
    file: str = "config/teams.toml",
) -> list[Team]:
    """Return the teams in the order of the file. Raises ConfigError with every fault.

    Without `models`, a team's policy is not compared with the models on offer. `has_urls`: the
    gateway can deliver URLs.
    """
    tables, faults = parse_toml(text, file), Faults(file)
    for name in tables.keys() - {"teams"}:
        faults.add(f"only [teams.NAME] belongs here{did_you_mean(name, ['teams'])}", name)
    table, faults = tables.get("teams", {}), faults.at("teams")
    teams = []
    if is_table(table, faults):
        for name, options in table.items():
            check_team_name(name, faults.at(name))
            team = read_team(
                name, options, models=models, has_urls=has_urls, faults=faults.at(name)
            )
            teams.append(team)
    if faults.found:
        raise ConfigError(faults.found)
    return teams


def check_team_name(name: str, faults: Faults) -> None:
    """Add a fault if a team cannot have this name."""
    if not NAME.fullmatch(name):
        faults.add(f"a team's name {NAME_RULE}")


def read_team(
    name: str,
    table: object,
    *,
    models: Mapping[str, Model] | None,
    has_urls: bool,
    faults: Faults,
) -> Team:
    """Return one team from a table of options, from a file or from a request body."""
    values = read_fields(table, TeamOptions, faults)
    values["limits"] = limits_of(asdict(values["limits"]))
    team = Team(name=name, **values)
    if models is not None:
        _check_offer(team, models, faults)
    if team.deliver in LINKED and not has_urls:
        faults.add(NO_LINKS, "deliver")
    return team


def _check_offer(team: Team, models: Mapping[str, Model], faults: Faults) -> None:
    """Find models and sizes of a policy that are not on offer. Items are named by position."""
    for position, name in enumerate(team.models or (), start=1):
        if name not in models:
            own = find_model(models, name)
            hint = f"; it is an alias of {own.name}" if own else did_you_mean(name, models)
            faults.add(f"item {position} is not a configured model{hint}", "models")
    offered = [models[name] for name in team.models or models if name in models]
    for position, size in enumerate(team.sizes or (), start=1):
        if offered and all(model.sizes.problem(size) for model in offered):
            faults.add(f"item {position}: none of the team's models draws this size", "sizes")
