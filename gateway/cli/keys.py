"""The commands `gateway keys` and `gateway admin token`.

A new key or token is the only line on standard output. Messages go to standard error.
"""

import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
from msgspec import UNSET

from gateway.cli.base import (
    Group,
    Parsed,
    command_line_user,
    config_option,
    format_option,
    note,
    print_once,
    with_store,
)
from gateway.cli.tables import key_cells, print_list
from gateway.config.admin_tokens import ENVIRONMENT, Role, is_name, mint, toml_block
from gateway.config.environment import value_of
from gateway.config.options import options_of
from gateway.config.values import NAME_RULE, TeamLimits, limit_values, limits_of
from gateway.core.key_format import parse_duration, public_id
from gateway.core.model import Key, KeyState
from gateway.core.periods import utc
from gateway.stores.port import Store
from gateway.tenants import operations
from gateway.tenants.views import key_view

_NAME_CHARS = 100

_NONE = "none"
"""Written for no limit."""

_NEVER = "never"
"""Written for no expiry."""

_LIMITS = {
    "images_per_day": "Images per UTC day",
    "images_per_month": "Images per UTC month",
    "cost_per_day_usd": "Dollars per UTC day, such as 2.50",
    "cost_per_month_usd": "Dollars per UTC month",
    "requests_per_minute": "Purchases in any 60 seconds",
    "concurrent_requests": "Purchases at the same time",
}

_KEY_ID = "KEY_ID is the id from 'gateway keys list', with or without sk-gw-."


@click.group(cls=Group)
def keys() -> None:
    """Manage the teams' keys. Running gateways follow a change within a second."""


def _limit_options(word: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the six limits as options, each under its name in teams.toml."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for name, limit in reversed(options_of(TeamLimits).items()):
            description = _LIMITS[name]
            command = click.option(
                f"--{name.replace('_', '-')}",
                metavar="USD" if name.endswith("_usd") else "N",
                type=Parsed("limit", partial(value_of, limit), word),
                help=f"{description}, or {word}." if word else f"{description}.",
            )(command)
        return command

    return add


def _name(text: str) -> str:
    if len(text) > _NAME_CHARS or not text.isprintable():
        raise ValueError(f"must be at most {_NAME_CHARS} printable characters")
    return text.strip()


_name_type = Parsed("text", _name)


@keys.command("create")
@click.option("--team", required=True, metavar="NAME", help="The key's team.")
@click.option("--name", default="", metavar="TEXT", type=_name_type, help="A name for lists.")
@click.option(
    "--expires",
    "lifetime",
    metavar="TIME",
    type=Parsed("time", parse_duration),
    help="Lifetime, such as 90d, 12h, 30m or 45s. Without it: no expiry.",
)
@_limit_options()
@config_option
def create_key(
    team: str, name: str, lifetime: float | None, config: Path | None, **limits: int | None
) -> None:
    """Create a key and print it once.

    The key is the only line on standard output. It cannot be shown again, because the store only
    keeps a hash. Its limits apply on top of the team's.

    \b
    Examples:
      gateway keys create --team design --name "Web shop" --expires 90d
      gateway keys create --team design --images-per-day 20 --cost-per-month-usd 15
      gateway keys create --team design > design.key
    """
    key, text = with_store(
        config,
        lambda store, pepper: operations.create_key(
            store.directory,
            team=team,
            name=name,
            lifetime=lifetime,
            pepper=pepper,
            by=command_line_user(),
            limits=limits_of(limits),
        ),
    )
    until = "" if key.expires is None else f", valid until {utc(key.expires)}"
    note(f"{public_id(key.id)} for team {team}{until}. The key is shown only once:")
    _print_key(key, text)


@keys.command("list")
@click.option("--team", metavar="NAME", help="Only this team's keys.")
@format_option("table", "json")
@config_option
def list_keys(team: str | None, format: str, config: Path | None) -> None:
    """List keys by their public ids, never the keys themselves.

    Times are UTC. The last use is accurate to a minute. A rotated key and its replacements form a
    line of keys. They share limits and budgets, and usage reports show them under the first id.
    """

    async def read(store: Store, _: bytes) -> tuple[list[Key], dict[str, float]]:
        return await operations.list_keys(store.directory, team), await store.directory.last_uses()

    found, used = with_store(config, read)
    now = time.time()
    views = [key_view(key, now, used.get(key.id)) for key in found]
    none = "There are no keys yet. Create one: gateway keys create --team NAME"
    print_list(format, views, key_cells, none=none)


@keys.command("change", epilog=_KEY_ID)
@click.argument("key_id")
@click.option("--name", metavar="TEXT", type=_name_type, help="A name for lists.")
@click.option(
    "--expires",
    "lifetime",
    metavar="TIME",
    type=Parsed("time", parse_duration, _NEVER),
    help="Time from now until the key expires, such as 90d, 12h, 30m or 45s, or never.",
)
@_limit_options(_NONE)
@config_option
def change_key(
    key_id: str,
    name: str | None,
    lifetime: float | str | None,
    config: Path | None,
    **limits: int | str | None,
) -> None:
    """Change a key's name, expiry or limits.

    Options that you leave out stay as they are. All keys of a line share their limits, so a change
    applies to the whole line. A changed limit keeps counting from the usage so far. A key's first
    limit starts at zero.

    \b
    Examples:
      gateway keys change 0123456789ab --images-per-day 50 --expires 90d
      gateway keys change 0123456789ab --images-per-day none --expires never
    """
    changed = {
        limit: None if size == _NONE else size for limit, size in limits.items() if size is not None
    }
    if name is None and lifetime is None and not changed:
        raise click.UsageError("Name at least one change: --name, --expires or a limit.")
    wanted = operations.KeyChange(
        name=name,
        lifetime=UNSET if lifetime is None else None if lifetime == _NEVER else float(lifetime),
        limits=limit_values(changed),
    )
    by = command_line_user()
    key = with_store(
        config, lambda store, _: operations.change_key(store.directory, key_id, wanted, by)
    )
    retiring = lifetime is not None and key.grace_ends is not None and key.ends == key.grace_ends
    still = f" It was replaced and still ends on {utc(key.grace_ends or 0)}." if retiring else ""
    note(f"Changed {public_id(key.id)} of team {key.team}.{still}")


@keys.command("rotate", epilog=_KEY_ID)
@click.argument("key_id")
@click.option(
    "--grace",
    default="24h",
    show_default=True,
    metavar="TIME",
    type=Parsed("time", partial(parse_duration, none=True)),
    help="Time that the old key keeps working, such as 24h, 7d or 0s.",
)
@config_option
def rotate_key(key_id: str, grace: float, config: Path | None) -> None:
    """Replace a key with a new one, and print the new one once.

    The new key is the only line on standard output. It has the old key's name, limits and
    lifetime. Both keys work until the grace period ends. They share budgets and usage history.

    \b
    Example:
      gateway keys rotate 0123456789ab --grace 7d > design.key
    """
    by = command_line_user()
    done = with_store(
        config,
        lambda store, pepper: operations.rotate_key(
            store.directory, key_id, grace=grace, pepper=pepper, by=by
        ),
    )
    ends = done.old.ends
    if ends is None or ends == by.now:
        still = "no longer works"
    else:
        still = f"{'works until' if ends > by.now else 'had expired already, on'} {utc(ends)}"
    until = "" if done.new.expires is None else f", valid until {utc(done.new.expires)}"
    cut = ends is not None and ends > by.now and not done.grace_in_full
    sooner = ", because it expires before the grace period ends" if cut else ""
    note(f"{public_id(done.old.id)} of team {done.old.team} {still}{sooner}.")
    note(f"{public_id(done.new.id)} replaces it{until}. The key is shown only once:")
    _print_key(done.new, done.text)


def _print_key(key: Key, text: str) -> None:
    id = public_id(key.id)
    print_once(
        text,
        f"the key {id} exists, but its text is lost. Replace it: gateway keys rotate {id} "
        f"--grace 0s. Or revoke it: gateway keys revoke {id}",
    )


def _add_state_command(name: str, state: KeyState, help: str) -> None:
    @keys.command(name, epilog=_KEY_ID, help=help)
    @click.argument("key_id")
    @config_option
    def set_state(key_id: str, config: Path | None) -> None:
        by = command_line_user()
        key = with_store(
            config, lambda store, _: operations.set_key_state(store.directory, key_id, state, by)
        )
        note(f"{public_id(key.id)} of team {key.team} is now {state}.")


_add_state_command("revoke", "revoked", "Revoke a key permanently.")
_add_state_command("disable", "disabled", "Disable a key until it is enabled again.")
_add_state_command(
    "enable", "active", "Enable a disabled key. A revoked or expired key cannot be enabled."
)


# -- admin tokens -------------------------------------------------------------------------------


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
def token(name: str, role: Role) -> None:
    """Create an admin token and print it once.

    The token is the only line on standard output. The lines to add to gateway.toml go to standard
    error. A running gateway reads them on SIGHUP, and then accepts the token.

    \b
    Example:
      gateway admin token grafana > grafana.token
    """
    if not is_name(name):
        raise click.UsageError(f'A token\'s name {NAME_RULE}; "{ENVIRONMENT}" is taken.')
    text = mint(secrets.token_bytes)
    note("# Add this to gateway.toml. The token is shown only once.")
    note(toml_block(name, role, text))
    print_once(text, "the token is lost. Do not add its lines to gateway.toml; create another one.")
