"""Compares the configuration of a running gateway with a new one.

Most changes apply at once. The options marked `RESTART` keep their old value until a restart.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.options import Option
from gateway.config.settings import OPTIONS, SECTIONS, Settings
from gateway.core.faults import shown


class Reloaded(Struct, frozen=True):
    """The settings to apply, and the names of the changed options, as in "[cache] ttl_seconds".

    `changed` options apply at once, `waiting` options after a restart.
    """

    settings: Settings
    changed: list[str]
    waiting: list[str]


def reloaded(running: Settings, found: Settings) -> Reloaded:
    """Return the settings that apply to a `running` gateway after `found` was read."""
    settings = replace(
        found,
        **{
            section: replace(getattr(found, section), **_kept(getattr(running, section), options))
            for section, options in OPTIONS.items()
        },
    )
    return Reloaded(settings, list(_changes(running, settings)), list(_changes(settings, found)))


def _kept(section: Struct, options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the values that only a restart changes."""
    return {name: getattr(section, name) for name in options if options[name].needs_restart}


def _changes(old: Settings, new: Settings) -> Iterator[str]:
    """Yield the options whose values differ. All limits are one, and so is each model."""
    for section in SECTIONS:
        before, after = getattr(old, section), getattr(new, section)
        changed = [
            name
            for name in before.__struct_fields__
            if getattr(before, name) != getattr(after, name)
        ]
        if section == "limits" and changed:
            yield "[limits]"
        else:
            yield from (f"[{section}] {name}" for name in changed)
    for name in sorted({*old.models, *new.models}):
        if old.models.get(name) != new.models.get(name):
            yield f"[models.{shown(name)}]"
    if old.default_model != new.default_model:
        yield "the default model"
