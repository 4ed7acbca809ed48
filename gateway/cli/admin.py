"""The commands for whoever looks after the gateway: the log of changes, and admin tokens."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.base import Command, Group, config_option, format_option, note, with_store
from gateway.cli.teams import DAY, day, end_of

if TYPE_CHECKING:
    from gateway.config.admin_tokens import Role


@click.command(cls=Command)
@click.option("--team", metavar="NAME", help="Only what is this team's.")
@click.option(
    "--from", "first", metavar="DAY", type=DAY, callback=day, help="The first day, as 2026-11-01."
)
@click.option(
    "--to", "last", metavar="DAY", type=DAY, callback=day, help="The last day, which is included."
)
@format_option
@config_option
def audit(
    team: str | None, first: float | None, last: float | None, format: str, config: Path | None
) -> None:
    """Show who changed which team or key, the latest first.

    Times are UTC. JSON has everything as it stood before and after, a table what differs.

    \b
    Example:
      gateway audit --team design --from 2026-11-01
    """
    from gateway.cli.tables import audit_cells, print_list
    from gateway.core.listing import listing

    end = end_of(first, last)
    entries = with_store(config, lambda store, _: store.audit.entries(first, end, team))
    print_list(format, [listing(entry) for entry in entries], audit_cells)
    if not entries:
        note("No change is on record.")


@click.group(cls=Group)
def admin() -> None:
    """Who may use the admin API."""


@admin.command("token")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["admin", "viewer"]),
    default="viewer",
    show_default=True,
    help="A viewer may read, and an admin may change things too.",
)
def token(name: str, role: "Role") -> None:
    """Make an admin token and print it, this once.

    The token is the only line on standard output. What gateway.toml needs to know of it goes to
    standard error; a running gateway reads that on SIGHUP.

    \b
    Example:
      gateway admin token grafana > grafana.token
    """
    from gateway.config.admin_tokens import ENVIRONMENT, is_name, mint, toml_block

    if not is_name(name):
        raise click.UsageError(
            "A token's name has 1 to 64 letters, digits and . _ -, starts with no mark and is "
            f'not "{ENVIRONMENT}".'
        )
    text = mint(secrets.token_bytes)
    note("# Put this into gateway.toml; the token is shown this once.")
    note(toml_block(name, role, text))
    click.echo(text)
