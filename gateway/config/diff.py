"""What a configuration that was read again changes in a gateway that runs.

Most of it. Where the gateway listens and what it has open already stays until it is restarted.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.options import Option
from gateway.config.settings import OPTIONS, SECTIONS, Settings
from gateway.core.faults import shown


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
            section: replace(getattr(found, section), **_kept(getattr(running, section), options))
            for section, options in OPTIONS.items()
            if section != "limits"
        },
    )
    return Reloaded(settings, list(_changes(running, settings)), list(_changes(settings, found)))


def _kept(section: Struct, options: Mapping[str, Option]) -> dict[str, Any]:
    """The values that only a restart changes."""
    return {name: getattr(section, name) for name in options if options[name].needs_restart}


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
