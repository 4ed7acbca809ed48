"""The commands `gateway teams` and `gateway usage`. They work while gateways serve.

Messages that are not an answer go to standard error.
"""

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.base import (
    Command,
    Group,
    command_line_user,
    config_option,
    format_option,
    note,
    span_of,
    span_options,
    waiting,
    with_store,
)
from gateway.cli.invoice import compare

if TYPE_CHECKING:
    from gateway.core.model import UsageRow
    from gateway.stores.port import Store

# -- teams --------------------------------------------------------------------------------------


@click.group(cls=Group)
def teams() -> None:
    """Manage the teams: their policies and limits."""


@teams.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@config_option
def apply_teams(file: Path, config: Path | None) -> None:
    """Create the teams in FILE, and replace the ones that exist.

    An existing team is replaced as a whole: options that FILE leaves out are removed. Teams that
    are not in FILE stay as they are. Used quotas stay used.

    \b
    Example:
      gateway teams apply config/teams.toml
    """
    from gateway.config.files import load_models, load_teams
    from gateway.tenants import operations

    wanted = load_teams(file, load_models(config))
    by = command_line_user()
    applied = with_store(
        config, lambda store, _: operations.apply_teams(store.directory, wanted, by), create=True
    )
    for title, names in (
        ("created", applied.created),
        ("replaced", applied.replaced),
        ("unchanged", applied.unchanged),
        (f"not in {file}, left alone", applied.left_alone),
    ):
        if names:
            note(f"{title}: {', '.join(names)}")
    if not wanted:
        note(f"{file} has no teams")


@teams.command("list")
@format_option("table", "json")
@config_option
def list_teams(format: str, config: Path | None) -> None:
    """List all teams with their policies and limits."""
    from gateway.cli.tables import print_list, team_cells
    from gateway.core.listing import listing
    from gateway.tenants import operations

    found = with_store(config, lambda store, _: operations.list_teams(store.directory))
    print_list(format, [listing(team) for team in found], team_cells)
    if not found:
        note("There are no teams yet. List them in a file and run: gateway teams apply FILE")


# -- usage --------------------------------------------------------------------------------------


class _Report(Command, Group):
    """A group that is also a command."""


@click.group(cls=_Report, invoke_without_command=True)
@click.option(
    "--by",
    type=click.Choice(["team", "key", "model", "size", "quality", "outcome", "hour", "day"]),
    multiple=True,
    default=["team"],
    show_default=True,
    help="Group by this field. Repeat it to group by several fields.",
)
@click.option("--team", metavar="NAME", help="Only this team's usage.")
@span_options(first=" Without it: the first of this month.", last=" Without it: today.")
@format_option("table", "csv", "json")
@config_option
def usage(
    by: tuple[str, ...],
    team: str | None,
    first: datetime | None,
    last: datetime | None,
    format: str,
    config: Path | None,
) -> None:
    """Show requests, images and costs.

    Days are UTC. A request counts on the day it was admitted. Bought images include unknown ones:
    images that are charged although their delivery could not be confirmed.

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
    start, end = span_of(first, last)
    if start is None:
        start = end_of_month(month_of(time.time()) - 1)
        if end is not None and end <= start:
            raise click.UsageError("The last day is before the first of this month.")
    with waiting("reading usage"):
        rows, names = with_store(config, lambda store, _: _rows(store, by, start, end, team))
    total = usage_total(by, rows) if len(rows) > 1 else None
    listings = [usage_listing(by, row) for row in rows]
    print_list(format, listings, lambda row: usage_cells(row, names), total=total)
    if not rows:
        note(f"There are no requests since {utc(start)}.")


async def _rows(
    store: "Store", by: tuple[str, ...], start: float, end: float | None, team: str | None
) -> "tuple[list[UsageRow], dict[str, str]]":
    """Return the rows. If they are by key, also return the name of each line's latest key."""
    from gateway.core.key_format import public_id
    from gateway.tenants.operations import check_team, list_keys

    await check_team(store.directory, team)
    rows = await store.usage.report(by, start, end, team)
    keys = await list_keys(store.directory) if "key" in by else []
    return rows, {public_id(key.line): key.name for key in keys}


usage.add_command(compare)
