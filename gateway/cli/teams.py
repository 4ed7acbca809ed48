"""The commands over the store: teams and usage. They work while gateways serve from it.

Everything that is not an answer goes to standard error. Keys are in `gateway.cli.keys`.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.archive import under_way
from gateway.cli.base import (
    Command,
    Group,
    config_option,
    format_option,
    note,
    usage_format_option,
    with_store,
    working_as,
)
from gateway.cli.invoice import compare

if TYPE_CHECKING:
    from gateway.core.model import UsageRow
    from gateway.stores.port import Store

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
    from gateway.config.files import load_models, load_teams
    from gateway.tenants import operations

    named = load_teams(file, load_models(config))
    by = working_as()
    applied = with_store(
        config, lambda store, _: operations.apply_teams(store.directory, named, by), create=True
    )
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
    from gateway.cli.tables import print_list, team_cells
    from gateway.core.listing import listing
    from gateway.tenants import operations

    found = with_store(config, lambda store, _: operations.list_teams(store.directory))
    print_list(format, [listing(team) for team in found], team_cells)
    if not found:
        note("There are no teams yet: bring them in with 'gateway teams apply FILE'.")


# -- usage --------------------------------------------------------------------------------------


def day(ctx: click.Context, param: click.Parameter, value: datetime | None) -> float | None:
    return None if value is None else value.replace(tzinfo=UTC).timestamp()


def end_of(first: float | None, last: float | None) -> float | None:
    """When the last day ends, both days by their begin. Raises UsageError, if before the first."""
    from gateway.core.periods import DAY_SECONDS

    end = None if last is None else last + DAY_SECONDS
    if first is not None and end is not None and end <= first:
        raise click.UsageError("The last day is before the first one.")
    return end


DAY = click.DateTime(["%Y-%m-%d"])


class _Report(Command, Group):
    """A group that is a command by itself."""


@click.group(cls=_Report, invoke_without_command=True)
@click.option(
    "--by",
    type=click.Choice(["team", "key", "model", "size", "quality", "outcome", "hour", "day"]),
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
    type=DAY,
    callback=day,
    help="The first day, as 2026-11-01. Without it, the first of this month.",
)
@click.option(
    "--to",
    "last",
    metavar="DAY",
    type=DAY,
    callback=day,
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
    if click.get_current_context().invoked_subcommand is not None:
        return
    from gateway.cli.tables import print_list, usage_cells
    from gateway.core.periods import end_of_month, month_of, utc
    from gateway.reporting.usage_query import usage_listing, usage_total

    by = tuple(dict.fromkeys(by))
    start = end_of_month(month_of(time.time()) - 1) if first is None else first
    end = end_of(start, last)
    with under_way("reading usage"):
        rows, names = with_store(config, lambda store, _: _rows(store, by, start, end, team))
    total = usage_total(by, rows) if len(rows) > 1 else None
    listings = [usage_listing(by, row) for row in rows]
    print_list(format, listings, lambda row: usage_cells(row, names), total=total)
    if not rows:
        note(f"Nothing was asked for since {utc(start)}.")


async def _rows(
    store: "Store", by: tuple[str, ...], start: float, end: float | None, team: str | None
) -> "tuple[list[UsageRow], dict[str, str]]":
    """The rows, and where they are by key what the latest key of each line is called."""
    from gateway.core.key_format import public_id
    from gateway.tenants.operations import check_team, list_keys

    await check_team(store.directory, team)
    rows = await store.usage.report(by, start, end, team)
    keys = await list_keys(store.directory) if "key" in by else []
    return rows, {public_id(key.line): key.name for key in keys}


usage.add_command(compare)
