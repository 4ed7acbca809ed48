"""What a configuration that was read again changes in a gateway that runs.

Most of it. Where the gateway listens and what it has open already stays until it is restarted.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.errors import shown
from gateway.config.settings import SECTIONS, Settings

NEEDS_RESTART = {
    "server": ("host", "port", "admin_host", "admin_port", "tls_cert", "tls_key"),
    "store": ("url",),
    "keys": ("pepper", "pepper_file"),
    "cache": ("max_bytes", "max_entry_bytes", "url"),
    "log": ("format",),
    "tracing": ("enabled", "prompts"),
}
"""Options that are looked at only at the start."""


class Reloaded(Struct, frozen=True):
    """The settings to go on with, and which options they change. `waiting` are those that were
    changed too, and need a restart. Names alone, as in "[cache] ttl_seconds".
    """

    settings: Settings
    changed: list[str]
    waiting: list[str]


def reloaded(running: Settings, found: Settings) -> Reloaded:
    """What becomes of the `running` settings when `found` was read."""
    settings = replace(
        found,
        **{
            name: replace(getattr(found, name), **_fields(getattr(running, name), options))
            for name, options in NEEDS_RESTART.items()
        },
    )
    return Reloaded(settings, list(_changes(running, settings)), list(_changes(settings, found)))


def _fields(section: Struct, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(section, name) for name in names}


def _changes(old: Settings, new: Settings) -> Iterator[str]:
    """The options whose values differ; limits as one, and each model as one."""
    for section in SECTIONS:
        before, after = getattr(old, section), getattr(new, section)
        if section == "limits":
            names = [] if before == after else ["*"]
        else:
            names = [
                name
                for name in before.__struct_fields__
                if getattr(before, name) != getattr(after, name)
            ]
        yield from (f"[{section}] {name}".removesuffix(" *") for name in names)
    for name in sorted({*old.models, *new.models}):
        if old.models.get(name) != new.models.get(name):
            yield f"[models.{shown(name)}]"
    if old.default_model != new.default_model:
        yield "the default model"
