"""The commands `gateway teams`. They work while gateways serve."""

from pathlib import Path

import click

from gateway.cli.base import (
    Group,
    command_line_user,
    config_option,
    format_option,
    note,
    read_settings,
    with_store,
)
from gateway.cli.tables import print_list, team_cells
from gateway.config.files import load_teams
from gateway.tenants import operations


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
    settings = read_settings(config)
    wanted = load_teams(file, settings.models, has_urls=settings.has_urls)
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
    found = with_store(config, lambda store, _: operations.list_teams(store.directory))
    none = "There are no teams yet. List them in a file and run: gateway teams apply FILE"
    print_list(format, found, team_cells, none=none)
