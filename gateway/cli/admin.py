"""The commands `gateway audit` and `gateway admin token`."""

import secrets
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.base import (
    Command,
    Group,
    config_option,
    format_option,
    note,
    span_of,
    span_options,
    with_store,
)

if TYPE_CHECKING:
    from gateway.config.admin_tokens import Role


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
    from gateway.cli.tables import audit_cells, print_list
    from gateway.core.listing import listing

    start, end = span_of(first, last)
    entries = with_store(config, lambda store, _: store.audit.entries(start, end, team))
    print_list(format, [listing(entry) for entry in entries], audit_cells)
    if not entries:
        note("There are no changes in this period.")


@click.group(cls=Group)
def admin() -> None:
    """Create tokens for the admin API."""


@admin.command("token")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["admin", "viewer"]),
    default="viewer",
    show_default=True,
    help="A viewer may only read; an admin may also change things.",
)
def token(name: str, role: "Role") -> None:
    """Create an admin token and print it once.

    The token is the only line on standard output. The lines to add to gateway.toml go to standard
    error. A running gateway reads them on SIGHUP, and then accepts the token.

    \b
    Example:
      gateway admin token grafana > grafana.token
    """
    from gateway.config.admin_tokens import ENVIRONMENT, is_name, mint, toml_block
    from gateway.config.values import NAME_RULE

    if not is_name(name):
        raise click.UsageError(f'A token\'s name {NAME_RULE}; "{ENVIRONMENT}" is taken.')
    text = mint(secrets.token_bytes)
    note("# Add this to gateway.toml. The token is shown only once.")
    note(toml_block(name, role, text))
    click.echo(text)
