"""The command for what requests came to lately."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.base import Command, config_option, format_option, note, with_store
from gateway.cli.teams import DAY

if TYPE_CHECKING:
    from gateway.reporting.history_query import ActivityPage
    from gateway.stores.port import Store


def _day(ctx: click.Context, param: click.Parameter, value: datetime | None) -> str | None:
    if value is None:
        return None
    if not 1970 <= value.year <= 9998:
        raise click.BadParameter("must be in the years 1970 to 9998.")
    return value.date().isoformat()


@click.command(cls=Command)
@click.option("--team", metavar="NAME", help="Only this team's requests.")
@click.option("--key", metavar="KEY_ID", help="Only this key's requests.")
@click.option("--id", metavar="REQUEST_ID", help="Only the request with this X-Request-Id.")
@click.option("--errors", is_flag=True, help="Only those that went wrong.")
@click.option(
    "--from", "first", metavar="DAY", type=DAY, callback=_day, help="The first day, as 2026-11-01."
)
@click.option(
    "--to", "last", metavar="DAY", type=DAY, callback=_day, help="The last day, which is included."
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 1_000),
    default=100,
    show_default=True,
    help="How many at the most.",
)
@format_option
@config_option
def activity(
    team: str | None,
    key: str | None,
    id: str | None,
    errors: bool,
    first: str | None,
    last: str | None,
    limit: int,
    format: str,
    config: Path | None,
) -> None:
    """Show recent requests of all gateways, the latest first.

    A gateway writes them once a second. Requests that are alike and come many in a second are one
    line, with their number; those without a known key always are. Times are UTC.

    \b
    Example:
      gateway activity --team design --errors
    """
    from gateway.cli.tables import activity_cells, print_list
    from gateway.core.listing import listing
    from gateway.reporting.history_query import ActivityQuery, read_activity
    from gateway.tenants.operations import check_team

    if first is not None and last is not None and last < first:
        raise click.UsageError("The last day is before the first one.")
    query = ActivityQuery(
        first=first, last=last, team=team, key=key, id=id, errors=errors, limit=limit
    )

    async def read(store: "Store") -> "ActivityPage":
        await check_team(store.directory, team)
        return await read_activity(store.history, query)

    page = with_store(config, lambda store, _: read(store))
    print_list(format, [listing(line) for line in page.requests], activity_cells)
    if not page.requests:
        note("No request is on record.")
