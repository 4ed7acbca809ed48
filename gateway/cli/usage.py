"""The commands `gateway usage` and `gateway usage compare`, which checks a provider's invoice."""

import sys
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from gateway.cli.base import (
    Command,
    Group,
    InvalidInput,
    Parsed,
    config_option,
    format_option,
    note,
    span_of,
    span_options,
    with_store,
)
from gateway.cli.tables import print_list, usage_cells
from gateway.core.key_format import public_id
from gateway.core.listing import Listing
from gateway.core.model import UsageRow
from gateway.core.money import dollars, format_usd
from gateway.core.periods import end_of_month, month_of, utc
from gateway.reporting.invoice import InvoiceError, compared, read_invoice, total
from gateway.reporting.queries import parse_time, usage_listing, usage_total
from gateway.stores.port import Store
from gateway.tenants.operations import check_team, list_keys


class _CommandGroup(Command, Group):
    """A group that is also a command."""


@click.group(cls=_CommandGroup, invoke_without_command=True)
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
    by = tuple(dict.fromkeys(by))
    start, end = span_of(first, last)
    if start is None:
        start = end_of_month(month_of(time.time()) - 1)
        if end is not None and end <= start:
            raise click.UsageError("The last day is before the first of this month.")
    with Console(stderr=True).status("reading usage"):
        rows, names = with_store(config, lambda store, _: _rows(store, by, start, end, team))
    total = usage_total(by, rows) if len(rows) > 1 else None
    listings = [usage_listing(by, row) for row in rows]
    none = f"There are no requests since {utc(start)}."
    print_list(format, listings, lambda row: usage_cells(row, names), total=total, none=none)


async def _rows(
    store: Store, by: tuple[str, ...], start: float, end: float | None, team: str | None
) -> tuple[list[UsageRow], dict[str, str]]:
    """Return the rows. If they are by key, also return the name of each line's latest key."""
    await check_team(store.directory, team)
    rows = await store.usage.report(by, start, end, team)
    keys = await list_keys(store.directory) if "key" in by else []
    return rows, {public_id(key.line): key.name for key in keys}


# -- invoices -----------------------------------------------------------------------------------


@usage.command()
@click.argument("invoice", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--tolerance-usd",
    "tolerance",
    metavar="DOLLARS",
    default="0.01",
    show_default=True,
    type=Parsed("dollars", dollars),
    help="Maximum difference per day.",
)
@format_option("table", "csv", "json")
@config_option
def compare(invoice: Path, tolerance: int, format: str, config: Path | None) -> None:
    """Compare an invoice with the recorded costs, day by day.

    INVOICE is a CSV file, or - for standard input. It needs a column "date" (or "day") and a column
    "amount" (or "cost", "amount_usd", "cost_usd"). Days are UTC, from the first to the last day of
    the invoice. Drift is the billed amount minus the recorded amount. Unknown is recorded cost
    whose delivery could not be confirmed. It is the usual reason for a negative drift: such days
    are named. Look into their purchases with 'gateway purchases list --state unknown', and refund
    those that the provider did not bill.

    The exit code is 1 if a day differs by more than the tolerance.

    \b
    Examples:
      gateway usage compare invoice.csv --tolerance-usd 0.50
      curl -s https://billing.example.com/invoice.csv | gateway usage compare -
    """
    try:
        stream = invoice == Path("-")
        billed = read_invoice(sys.stdin.buffer.read() if stream else invoice.read_bytes())
    except OSError as error:
        raise InvalidInput([f"{invoice}: cannot be read: {error.strerror}"]) from None
    except InvoiceError as error:
        raise InvalidInput([f"{invoice}: {fault}" for fault in error.faults]) from None
    recorded, unknown = with_store(config, lambda store, _: _recorded(store, list(billed)))
    days = compared(billed, recorded, unknown, tolerance)
    print_list(format, days, _cells, total=total(days, tolerance))
    if wrong := sum(not day.within_tolerance for day in days):
        note(f"{wrong} of {len(days)} days differ by more than ${format_usd(tolerance)}.")
        if explained := [day.day for day in days if day.explained]:
            note(f"Unknown purchases explain the drift of {', '.join(explained)}.")
        click.get_current_context().exit(1)


async def _recorded(store: Store, days: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the recorded cost of each day, and the unknown part of it."""
    start, end = parse_time(days[0]), parse_time(days[-1], ends=True)
    recorded, unknown = defaultdict[str, int](int), defaultdict[str, int](int)
    for row in await store.usage.report(("day", "outcome"), start, end):
        day, outcome = row.group
        if row.cost:
            recorded[day] += row.cost
            unknown[day] += row.cost if outcome == "unknown" else 0
    return dict(recorded), dict(unknown)


def _cells(listing: Listing) -> dict[str, str]:
    percent = listing["drift_percent"]
    return {
        "day": listing["day"],
        "recorded USD": listing["recorded_usd"] or "-",
        "unknown USD": listing["unknown_usd"],
        "billed USD": listing["billed_usd"] or "-",
        "drift USD": listing["drift_usd"],
        "drift %": "-" if percent is None else f"{percent:+.2f}",
        "": "" if listing["day"] == "total" else _remark(listing),
    }


def _remark(listing: Listing) -> str:
    if listing["explained"]:
        return "unknown purchases"
    side = {"recorded": "not billed", "billed": "not recorded"}.get(listing["sides"])
    return side or ("" if listing["within_tolerance"] else "differs")
