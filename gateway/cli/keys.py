"""The commands over keys. Running gateways follow them within a second.

`keys create` and `keys rotate` print the key as the only line on standard output; everything that
is not an answer goes to standard error.
"""

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.base import Group, config_option, format_option, note, with_store, working_as

if TYPE_CHECKING:
    from msgspec import UnsetType

    from gateway.core.model import Key, KeyState
    from gateway.stores.port import Store

_NAME_CHARS = 100

_NONE = "none"
"""What is written for no limit."""

_NEVER = "never"
"""What is written for no end."""

_LIMITS = {
    "images_per_day": "many images a day (UTC)",
    "images_per_month": "many images a month (UTC)",
    "cost_per_day_usd": "many dollars a day, such as 2.50",
    "cost_per_month_usd": "many dollars a month",
    "requests_per_minute": "many purchases in any minute",
    "concurrent_requests": "many purchases at the same time",
}


@click.group(cls=Group)
def keys() -> None:
    """The teams' keys. Running gateways follow a change within a second."""


def _lifetime(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    from gateway.core.key_format import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def _grace(ctx: click.Context, param: click.Parameter, value: str) -> float:
    from gateway.core.key_format import parse_duration

    try:
        return parse_duration(value, none=True)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def _limit(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    from gateway.config.limits import TeamLimits
    from gateway.config.options import options_of

    if value is None:
        return None
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else value
    try:
        limit: int = options_of(TeamLimits)[param.name or ""].convert(number)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    return limit


def _new_limit(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> "int | UnsetType | None":
    from msgspec import UNSET

    return UNSET if value is None else None if value == _NONE else _limit(ctx, param, value)


def _new_lifetime(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> "float | UnsetType | None":
    from msgspec import UNSET

    return UNSET if value is None else None if value == _NEVER else _lifetime(ctx, param, value)


def _limit_options(
    callback: Callable[..., object] = _limit, hint: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The six limits as options, each under its name in teams.toml."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for name, of in reversed(_LIMITS.items()):
            command = click.option(
                f"--{name.replace('_', '-')}",
                metavar="USD" if name.endswith("_usd") else "N",
                callback=callback,
                help=f"At most so {of}{hint}.",
            )(command)
        return command

    return add


def _name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if len(value) > _NAME_CHARS or not value.isprintable():
        raise click.BadParameter(f"must be at most {_NAME_CHARS} printable characters.")
    return value.strip()


@keys.command("create")
@click.option("--team", required=True, metavar="NAME", help="The team that the key is for.")
@click.option("--name", default="", metavar="TEXT", callback=_name, help="What lists call it.")
@click.option(
    "--expires",
    "lifetime",
    metavar="TIME",
    callback=_lifetime,
    help="When it stops working: in 90d, 12h, 30m or 45s. Without it, never.",
)
@_limit_options()
@config_option
def create_key(
    team: str, name: str, lifetime: float | None, config: Path | None, **limits: int | None
) -> None:
    """Make a key and print it, this once.

    The key is the only line on standard output. Nobody can show it again: the store keeps no
    more than is needed to recognise it. Its limits hold besides those of its team.

    \b
    Examples:
      gateway keys create --team design --name "Web shop" --expires 90d
      gateway keys create --team design --images-per-day 20 --cost-per-month-usd 15
      gateway keys create --team design > design.key
    """
    from gateway.config.limits import limits_of
    from gateway.core.key_format import public_id
    from gateway.core.periods import utc
    from gateway.tenants import operations

    key, text = with_store(
        config,
        lambda store, pepper: operations.create_key(
            store.directory,
            team=team,
            name=name,
            lifetime=lifetime,
            pepper=pepper,
            by=working_as(),
            entropy=secrets.token_bytes,
            limits=limits_of({name: size for name, size in limits.items() if size is not None}),
        ),
    )
    until = "" if key.expires is None else f", works until {utc(key.expires)}"
    note(f"{public_id(key.id)} for team {team}{until}. It is shown this once:")
    click.echo(text)


@keys.command("list")
@click.option("--team", metavar="NAME", help="Only this team's keys.")
@format_option
@config_option
def list_keys(team: str | None, format: str, config: Path | None) -> None:
    """Show keys by their public ids, never the keys themselves. Times are UTC.

    Last use is known to a minute. A key that was rotated is of the line of its first key: they
    share limits and budgets, and their usage is shown under the first one's id.
    """
    from gateway.cli.tables import key_cells, print_list
    from gateway.core.listing import listing
    from gateway.tenants import operations
    from gateway.tenants.views import key_view

    async def read(store: "Store", _: bytes) -> "tuple[list[Key], dict[str, float]]":
        return await operations.list_keys(store.directory, team), await store.directory.last_uses()

    found, used = with_store(config, read)
    now = time.time()
    views = [listing(key_view(key, now, used.get(key.id))) for key in found]
    print_list(format, views, key_cells)
    if not found:
        note("There are no keys yet: make one with 'gateway keys create --team NAME'.")


key_id_argument = click.argument("key_id")


@keys.command("change")
@key_id_argument
@click.option("--name", metavar="TEXT", callback=_name, help="What lists call it.")
@click.option(
    "--expires",
    "lifetime",
    metavar="TIME",
    callback=_new_lifetime,
    help="When it stops working: in 90d, 12h, 30m or 45s from now on, or never.",
)
@_limit_options(_new_limit, ", or none")
@config_option
def change_key(
    key_id: str,
    name: str | None,
    lifetime: "float | UnsetType | None",
    config: Path | None,
    **limits: "int | UnsetType | None",
) -> None:
    """Change a key's name, when it expires, or its limits.

    What is not named stays as it is. Keys of one line share their limits: those of all of them are
    changed. What a key used while it had no limit of its own is not counted under the first one.

    KEY_ID is what 'gateway keys list' shows, with or without sk-gw-.

    \b
    Examples:
      gateway keys change 0123456789ab --images-per-day 50 --expires 90d
      gateway keys change 0123456789ab --images-per-day none --expires never
    """
    from msgspec import UnsetType

    from gateway.config.limits import limit_values
    from gateway.core.key_format import public_id
    from gateway.tenants import operations

    named = {of: size for of, size in limits.items() if not isinstance(size, UnsetType)}
    if name is None and isinstance(lifetime, UnsetType) and not named:
        raise click.UsageError("Say what is to be changed: a name, when it expires, or a limit.")
    wanted = operations.KeyChange(name=name, lifetime=lifetime, limits=limit_values(named))
    by = working_as()
    key = with_store(
        config, lambda store, _: operations.change_key(store.directory, key_id, wanted, by)
    )
    note(f"{public_id(key.id)} of team {key.team} is changed.")


@keys.command("rotate")
@key_id_argument
@click.option(
    "--grace",
    default="24h",
    show_default=True,
    metavar="TIME",
    callback=_grace,
    help="How long the old key still works: 24h, 7d, or 0s for no longer.",
)
@config_option
def rotate_key(key_id: str, grace: float, config: Path | None) -> None:
    """Replace a key by a new one and print that, this once.

    The new key is the only line on standard output. It has the old one's name, limits and length
    of life. Until the grace ends both work; what is used up stays used up, and usage goes on
    under the same id.

    KEY_ID is what 'gateway keys list' shows, with or without sk-gw-.

    \b
    Example:
      gateway keys rotate 0123456789ab --grace 7d > design.key
    """
    from gateway.core.key_format import public_id
    from gateway.core.periods import utc
    from gateway.tenants import operations

    by = working_as()
    done = with_store(
        config,
        lambda store, pepper: operations.rotate_key(
            store.directory, key_id, grace=grace, pepper=pepper, by=by, entropy=secrets.token_bytes
        ),
    )
    ends = done.old.ends
    still = "works no more" if ends is None or ends <= by.now else f"works until {utc(ends)}"
    until = "" if done.new.expires is None else f", works until {utc(done.new.expires)}"
    sooner = "" if done.grace_in_full else ", for it was to end sooner than the grace"
    note(f"{public_id(done.old.id)} of team {done.old.team} {still}{sooner}.")
    note(f"{public_id(done.new.id)} replaces it{until}. It is shown this once:")
    click.echo(done.text)


@keys.command("revoke")
@key_id_argument
@config_option
def revoke_key(key_id: str, config: Path | None) -> None:
    """Stop a key for good.

    KEY_ID is what 'gateway keys list' shows, with or without sk-gw-.
    """
    _set_state(config, key_id, "revoked")


@keys.command("disable")
@key_id_argument
@config_option
def disable_key(key_id: str, config: Path | None) -> None:
    """Stop a key until it is enabled again.

    KEY_ID is what 'gateway keys list' shows, with or without sk-gw-.
    """
    _set_state(config, key_id, "disabled")


@keys.command("enable")
@key_id_argument
@config_option
def enable_key(key_id: str, config: Path | None) -> None:
    """Let a disabled key work again. One that is revoked or expired stays so.

    KEY_ID is what 'gateway keys list' shows, with or without sk-gw-.
    """
    _set_state(config, key_id, "active")


def _set_state(config: Path | None, key_id: str, state: "KeyState") -> None:
    from gateway.core.key_format import public_id
    from gateway.tenants import operations

    by = working_as()
    key = with_store(
        config, lambda store, _: operations.set_key_state(store.directory, key_id, state, by)
    )
    note(f"{public_id(key.id)} of team {key.team} is {state}")
