"""The commands `gateway purchases`: single purchases, refunds, and who bought a picture."""

import hashlib
from io import BufferedReader
from pathlib import Path

import click

from gateway.cli.base import (
    Group,
    Parsed,
    command_line_user,
    config_option,
    format_option,
    note,
    with_store,
)
from gateway.cli.tables import buyer_cells, print_list, print_record, purchase_cells
from gateway.core.bounds import MOST_LISTED
from gateway.core.money import format_usd
from gateway.quota import purchases as operations
from gateway.quota.purchase import PurchaseFilter, PurchaseState, read_why
from gateway.quota.purchases import PurchaseStores
from gateway.reporting.queries import parse_time
from gateway.stores.port import Store

_ID = "ID is a purchase's id from 'gateway purchases list', or the X-Request-Id of its request."


def _since(text: str) -> float:
    try:
        return parse_time(text)
    except ValueError:
        raise ValueError("must be a day (2026-11-01) or a time (2026-11-01T12:00:00Z)") from None


@click.group(cls=Group)
def purchases() -> None:
    """Look into single purchases, refund unknown charges, and find a picture's purchase.

    A purchase is open until its outcome is recorded. It is unknown if it was charged although its
    delivery could not be confirmed: after a timeout, for example.
    """


@purchases.command("list")
@click.option(
    "--state",
    type=click.Choice(["open", "unknown", "refunded"]),
    help="Only purchases in this state.",
)
@click.option("--team", metavar="NAME", help="Only this team's purchases.")
@click.option(
    "--since",
    metavar="TIME",
    type=Parsed("time", _since),
    help="Only purchases since this day or time, such as 2026-11-01.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, MOST_LISTED),
    default=100,
    show_default=True,
    help="Maximum number of lines.",
)
@format_option("table", "json")
@config_option
def list_purchases(
    state: PurchaseState | None,
    team: str | None,
    since: float | None,
    limit: int,
    format: str,
    config: Path | None,
) -> None:
    """List open, unknown and refunded purchases, newest first.

    Times are UTC. The time is that of the reservation: a charge counts in its day and month.

    \b
    Example:
      gateway purchases list --state unknown --since 2026-11-01
    """
    wanted = PurchaseFilter(team=team, since=since)
    found = with_store(
        config, lambda store, _: operations.list_purchases(_parts(store), wanted, state, limit)
    )
    print_list(format, found, purchase_cells, none="There are no such purchases.")


@purchases.command("show", epilog=_ID)
@click.argument("id")
@format_option("table", "json")
@config_option
def show_purchase(id: str, format: str, config: Path | None) -> None:
    """Show one open, unknown or refunded purchase."""
    found = with_store(config, lambda store, _: operations.find_purchase(_parts(store), id))
    print_record(format, found)


@purchases.command("refund", epilog=_ID)
@click.argument("id")
@click.option(
    "--why",
    required=True,
    metavar="TEXT",
    type=Parsed("text", read_why),
    help="The reason, for the audit log. Do not write prompts or keys into it.",
)
@config_option
def refund_purchase(id: str, why: str, config: Path | None) -> None:
    """Take back the charge of an unknown purchase.

    The budgets of the team, the key and the gateway fall by it in the day and month of the
    reservation, and usage reports no longer contain it. If the images are delivered after all,
    they are charged again.

    \b
    Example:
      gateway purchases refund 4bf92f3577b34da6a3ce929d0e0e4736 --why "not on the invoice"
    """
    by = command_line_user()
    done = with_store(
        config, lambda store, _: operations.refund_purchase(_parts(store), id, why, by)
    )
    note(f"Refunded ${format_usd(done.cost)} of team {done.team} for purchase {done.id}.")


@purchases.command("whose")
@click.argument("file", type=click.File("rb"))
@format_option("table", "json")
@config_option
def whose_picture(file: BufferedReader, format: str, config: Path | None) -> None:
    """Show which purchases bought a picture.

    FILE is the picture, or - for standard input. Its bytes must be unchanged: the gateway compares
    their SHA-256 with the pictures that it kept. A picture that was saved again, resized or
    stripped of its metadata has other bytes.

    \b
    Example:
      gateway purchases whose apple.png
    """
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    found = with_store(config, lambda store, _: store.pictures.find(digest, MOST_LISTED))
    print_list(
        format,
        found,
        buyer_cells,
        none="No purchase is known that bought a picture with exactly these bytes.",
    )


def _parts(store: Store) -> PurchaseStores:
    return PurchaseStores(store.accounts, store.directory, store.purchases)
