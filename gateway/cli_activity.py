"""The command for what requests came to lately."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli_base import Command, config_option, format_option, note, with_store

if TYPE_CHECKING:
    from gateway.listing import Listing
    from gateway.ports import Store


@click.command(cls=Command)
@click.option("--team", metavar="NAME", help="Only this team's requests.")
@click.option("--key", metavar="KEY_ID", help="Only this key's requests.")
@click.option("--id", metavar="REQUEST_ID", help="Only the request with this X-Request-Id.")
@click.option("--errors", is_flag=True, help="Only those that went wrong.")
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
    from gateway.activity_query import ActivityQuery, read_activity
    from gateway.cli_tables import activity_cells, print_list
    from gateway.operations import check_team

    query = ActivityQuery(team=team, key=key, id=id, errors=errors, limit=limit)

    async def read(store: "Store") -> "tuple[list[Listing], str | None]":
        await check_team(store, team)
        return await read_activity(store, query)

    requests, _ = with_store(config, lambda store, _: read(store))
    print_list(format, requests, activity_cells)
    if not requests:
        note("No request is on record.")
