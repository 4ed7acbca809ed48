"""The commands over the store: teams, keys and usage. They work while gateways serve from it.

`keys create` prints the key as the only line on standard output; everything that is not an
answer goes to standard error.
"""

import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli_base import (
    Command,
    Group,
    config_option,
    format_option,
    note,
    usage_format_option,
    with_store,
)

if TYPE_CHECKING:
    from gateway.model import KeyState

_NAME_CHARS = 100


# -- teams --------------------------------------------------------------------------------------


@click.group(cls=Group)
def teams() -> None:
    """The teams: what they may ask for, and their limits."""


@teams.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@config_option
def apply_teams(file: Path, config: Path | None) -> None:
    """Create the teams of FILE, replace those that exist.

    A team that exists is replaced whole: what FILE does not say about it, it has no more. Teams
    that are not in FILE are left alone. Used-up quotas stay used up.

    \b
    Example:
      gateway teams apply config/teams.toml
    """
    from gateway import operations
    from gateway.config_files import load_models, load_teams

    named = load_teams(file, load_models(config))
    applied = with_store(config, lambda store, _: operations.apply_teams(store, named), create=True)
    for title, names in (
        ("created", applied.created),
        ("replaced", applied.replaced),
        ("unchanged", applied.unchanged),
        (f"not in {file}, left alone", applied.left_alone),
    ):
        if names:
            note(f"{title}: {', '.join(names)}")
    if not named:
        note(f"{file} has no teams")


@teams.command("list")
@format_option
@config_option
def list_teams(format: str, config: Path | None) -> None:
    """Show all teams with their policies and limits."""
    from gateway import operations
    from gateway.cli_tables import print_list, team_cells
    from gateway.listing import team_listing

    found = with_store(config, lambda store, _: operations.list_teams(store))
    print_list(format, [team_listing(team) for team in found], team_cells)
    if not found:
        note("There are no teams yet: bring them in with 'gateway teams apply FILE'.")


# -- keys ---------------------------------------------------------------------------------------


@click.group(cls=Group)
def keys() -> None:
    """The teams' keys. Running gateways follow a change within a second."""


def _lifetime(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    from gateway.rules.keys import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def _name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if len(value) > _NAME_CHARS or not value.isprintable():
        raise click.BadParameter(f"must be at most {_NAME_CHARS} printable characters.")
    return value.strip()


@keys.command("create")
@click.option("--team", required=True, metavar="NAME", help="The team that the key is for.")
@click.option("--name", default="", metavar="TEXT", callback=_name, help="What lists call it.")
@click.option(
    "--expires",
    "lifetime",
    metavar="TIME",
    callback=_lifetime,
    help="When it stops working: in 90d, 12h, 30m or 45s. Without it, never.",
)
@config_option
def create_key(team: str, name: str, lifetime: float | None, config: Path | None) -> None:
    """Make a key and print it, this once.

    The key is the only line on standard output. Nobody can show it again: the store keeps no
    more than is needed to recognise it.

    \b
    Examples:
      gateway keys create --team design --name "Web shop" --expires 90d
      gateway keys create --team design > design.key
    """
    from gateway import operations
    from gateway.listing import public_id, utc

    key, text = with_store(
        config,
        lambda store, pepper: operations.create_key(
            store,
            team=team,
            name=name,
            lifetime=lifetime,
            pepper=pepper,
            now=time.time(),
            entropy=secrets.token_bytes,
        ),
    )
    until = "" if key.expires is None else f", works until {utc(key.expires)}"
    note(f"{public_id(key.id)} for team {team}{until}. It is shown this once:")
    click.echo(text)


@keys.command("list")
@click.option("--team", metavar="NAME", help="Only this team's keys.")
@format_option
@config_option
def list_keys(team: str | None, format: str, config: Path | None) -> None:
    """Show keys by their public ids, never the keys themselves. Times are UTC."""
    from gateway import operations
    from gateway.cli_tables import key_cells, print_list
    from gateway.listing import key_listing

    found = with_store(config, lambda store, _: operations.list_keys(store, team))
    now = time.time()
    print_list(format, [key_listing(key, now) for key in found], key_cells)
    if not found:
        note("There are no keys yet: make one with 'gateway keys create --team NAME'.")


key_id_argument = click.argument("key_id")


@keys.command("revoke")
@key_id_argument
@config_option
def revoke_key(key_id: str, config: Path | None) -> None:
    """Stop a key for good.

    KEY_ID is what 'gateway keys list' shows, with or without sk-gw-.
    """
    _set_state(config, key_id, "revoked")


@keys.command("disable")
@key_id_argument
@config_option
def disable_key(key_id: str, config: Path | None) -> None:
    """Stop a key until it is enabled again.

    KEY_ID is what 'gateway keys list' shows, with or without sk-gw-.
    """
    _set_state(config, key_id, "disabled")


@keys.command("enable")
@key_id_argument
@config_option
def enable_key(key_id: str, config: Path | None) -> None:
    """Let a disabled key work again. One that is revoked stays so.

    KEY_ID is what 'gateway keys list' shows, with or without sk-gw-.
    """
    _set_state(config, key_id, "active")


def _set_state(config: Path | None, key_id: str, state: "KeyState") -> None:
    from gateway import operations
    from gateway.listing import has_expired, public_id, utc

    key = with_store(config, lambda store, _: operations.set_key_state(store, key_id, state))
    late = state == "active" and has_expired(key, time.time())
    expired = f", but it expired on {utc(key.expires or 0)}" if late else ""
    note(f"{public_id(key.id)} of team {key.team} is {state}{expired}")


# -- usage --------------------------------------------------------------------------------------


def _day(ctx: click.Context, param: click.Parameter, value: datetime | None) -> float | None:
    return None if value is None else value.replace(tzinfo=UTC).timestamp()


_DAY = click.DateTime(["%Y-%m-%d"])


@click.command(cls=Command)
@click.option(
    "--by",
    type=click.Choice(["team", "key", "model", "day"]),
    multiple=True,
    default=["team"],
    show_default=True,
    help="One row for each of these; given again, for each combination.",
)
@click.option("--team", metavar="NAME", help="Only this team's usage.")
@click.option(
    "--from",
    "first",
    metavar="DAY",
    type=_DAY,
    callback=_day,
    help="The first day, as 2026-11-01. Without it, the first of this month.",
)
@click.option(
    "--to",
    "last",
    metavar="DAY",
    type=_DAY,
    callback=_day,
    help="The last day, which is included. Without it, today.",
)
@usage_format_option
@config_option
def usage(
    by: tuple[str, ...],
    team: str | None,
    first: float | None,
    last: float | None,
    format: str,
    config: Path | None,
) -> None:
    """Show what was asked for and bought.

    This month's, or from one day to another. Days begin at midnight UTC. A call counts when it
    was admitted. Images bought include the unknown ones: those that are charged because nobody
    can tell whether the upstream drew them.

    \b
    Examples:
      gateway usage --by key
      gateway usage --by team --by day --from 2026-10-01 --to 2026-10-31 --format csv
    """
    from gateway.cli_tables import print_list, usage_cells
    from gateway.listing import usage_listing, usage_total, utc
    from gateway.rules.windows import DAY_SECONDS, end_of_month, month_of

    by = tuple(dict.fromkeys(by))
    start = end_of_month(month_of(time.time()) - 1) if first is None else first
    end = None if last is None else last + DAY_SECONDS
    if end is not None and end <= start:
        raise click.UsageError("The last day is before the first one.")
    rows = with_store(config, lambda store, _: store.usage(by, start, end, team))
    total = usage_total(by, rows) if len(rows) > 1 else None
    print_list(format, [usage_listing(by, row) for row in rows], usage_cells, total=total)
    if not rows:
        note(f"Nothing was asked for since {utc(start)}.")
