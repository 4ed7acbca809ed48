"""The settings in force while the gateway runs. A reload compares them with new ones.

It replaces them as a whole. Most changes apply at once; the options marked `RESTART` keep their old
value until a restart.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.settings import OPTIONS, SECTIONS, Settings
from gateway.core.faults import shown

CurrentSettings = Callable[[], Settings]
"""Returns the settings in force. Parts call it at each use, so that a reload reaches them."""


class LiveSettings:
    """Holds the settings in force; calling it returns them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self) -> Settings:
        return self._settings

    def replace(self, settings: Settings) -> None:
        """Put these settings in force, for everything that starts from now on."""
        self._settings = settings


class Reloaded(Struct, frozen=True):
    """The settings to apply, and the names of the changed options, as in "[cache] ttl_seconds".

    `changed` options apply at once, `waiting` options after a restart.
    """

    settings: Settings
    changed: list[str]
    waiting: list[str]


def reloaded(running: Settings, found: Settings) -> Reloaded:
    """Return the settings that apply to a `running` gateway after `found` was read."""
    sections = {}
    for section, options in OPTIONS.items():
        old = getattr(running, section)
        kept = {name: getattr(old, name) for name in options if options[name].needs_restart}
        sections[section] = replace(getattr(found, section), **kept)
    settings = replace(found, **sections)
    return Reloaded(settings, list(_changes(running, settings)), list(_changes(settings, found)))


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
