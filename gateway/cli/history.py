"""The commands `gateway activity` and `gateway audit`: recent requests, and changes."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gateway.cli.base import (
    Command,
    check_span,
    config_option,
    format_option,
    span_of,
    span_options,
    with_store,
)
from gateway.cli.tables import activity_cells, audit_cells, print_list
from gateway.reporting.queries import ActivityPage, ActivityQuery, read_activity
from gateway.stores.port import Store
from gateway.tenants.operations import check_team


@click.command(cls=Command)
@click.option("--team", metavar="NAME", help="Only this team's requests.")
@click.option("--key", metavar="KEY_ID", help="Only this key's requests.")
@click.option("--id", metavar="REQUEST_ID", help="Only the request with this X-Request-Id.")
@click.option(
    "--outcome", metavar="WORD", help="Only this outcome, as in the log: upstream_timeout."
)
@click.option("--errors", is_flag=True, help="Only failed requests.")
@span_options()
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 1_000),
    default=100,
    show_default=True,
    help="Maximum number of lines.",
)
@format_option("table", "json")
@config_option
def activity(
    first: datetime | None, last: datetime | None, format: str, config: Path | None, **filters: Any
) -> None:
    """Show recent requests of all gateways, newest first.

    Gateways write their requests once a second. Many similar requests within a second share one
    line, which shows their number. Similar requests without a valid key always share one line.
    Times are UTC.

    \b
    Example:
      gateway activity --team design --errors
    """
    check_span(first, last)
    query = ActivityQuery(first=_iso(first), last=_iso(last), **filters)

    async def read(store: Store) -> ActivityPage:
        await check_team(store.directory, query.team)
        return await read_activity(store.history, query)

    page = with_store(config, lambda store, _: read(store))
    none = "There are no such requests in the history."
    print_list(format, page.requests, activity_cells, none=none)


def _iso(day: datetime | None) -> str | None:
    if day is not None and not 1970 <= day.year <= 9998:
        raise click.UsageError("A day must be in the years 1970 to 9998.")
    return None if day is None else day.date().isoformat()


@click.command(cls=Command)
@click.option("--team", metavar="NAME", help="Only changes of this team and its keys.")
@span_options()
@format_option("table", "json")
@config_option
def audit(
    team: str | None,
    first: datetime | None,
    last: datetime | None,
    format: str,
    config: Path | None,
) -> None:
    """Show who changed which team or key, newest first.

    Times are UTC. A table shows the fields that changed. JSON shows everything before and after
    the change.

    \b
    Example:
      gateway audit --team design --from 2026-11-01
    """
    start, end = span_of(first, last)
    entries = with_store(config, lambda store, _: store.audit.entries(start, end, team))
    print_list(format, entries, audit_cells, none="There are no changes in this period.")
