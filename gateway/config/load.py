"""gateway.toml and the environment into Settings, or every reason at once why not.

Each section is read option by option, so that one fault hides no other. The environment outranks
the file; a wrong value in the file is a fault all the same. Faults and warnings name the place
and what would be right, never the value.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config.admin_tokens import read_tokens
from gateway.config.checks import ALWAYS, DOUBTS, WITH_UPSTREAM, Rule, broken
from gateway.config.environment import stray_variables, value_of, variable_place
from gateway.config.errors import ConfigError, Place, did_you_mean
from gateway.config.model_tables import read_models
from gateway.config.options import options_of, read_table, variable_of
from gateway.config.settings import SECTIONS, AdminSettings, Settings, limits_of
from gateway.config.toml import parse_toml
from gateway.config.webhooks import read_webhooks, variables_of

__all__ = ["ConfigError", "read_settings"]

_OPTIONS = {name: options_of(struct, section=name) for name, struct in SECTIONS.items()}
_TABLES = {"admin": ("tokens",), "alerts": ("webhooks",)}
"""Tables inside of a section, which are read elsewhere."""
_VARIABLES = {
    variable_of(section, name) for section, options in _OPTIONS.items() for name in options
}


def read_settings(
    text: str | None,
    environ: Mapping[str, str],
    *,
    place: str = "config/gateway.toml",
    needs_upstream: bool = False,
) -> tuple[Settings, list[str]]:
    """The settings and what to warn about. `text` is the file's, None where there is no file.

    An empty variable counts as one that is not set. `needs_upstream` makes it a fault to have no
    URL or no key of an upstream, or no variable that a webhook names. Raises ConfigError with
    every fault of file and environment.
    """
    tables = parse_toml(text or "", place)
    reading = _Reading(tables, environ, Place(place), serving=needs_upstream)
    settings = reading.settings()
    rules = ALWAYS + WITH_UPSTREAM if needs_upstream else ALWAYS
    reading.faults += reading.broken(rules, settings)
    if reading.faults:
        raise ConfigError(reading.faults)
    return settings, [*reading.warnings, *reading.broken(DOUBTS, settings)]


class _Reading:
    """One reading: what it found wrong so far, and where the options that it found stand.

    Options go by section.name in `_wrong` and `_places`.
    """

    def __init__(
        self, tables: Mapping[str, Any], environ: Mapping[str, str], file: Place, *, serving: bool
    ) -> None:
        self._tables, self._file, self._serving = tables, file, serving
        # A file that became a variable, as in a Secret, ends in a line's end.
        texts = {name: value.rstrip("\r\n") for name, value in environ.items()}
        self._environ = {name: text for name, text in texts.items() if text}
        self._wrong: set[str] = set()
        self._places: dict[str, str] = {}
        self.faults = list(self._unknown_tables())
        known = _VARIABLES.union(variables_of(tables))
        stray_faults, self.warnings = stray_variables(self._environ, known, SECTIONS)
        self.faults += stray_faults

    def _unknown_tables(self) -> Iterator[str]:
        known = [*SECTIONS, "models"]
        for name, value in self._tables.items():
            if name in known:
                continue
            if isinstance(value, dict):
                yield f"{self._file.table(name)}: no such section{did_you_mean(name, known)}"
            else:
                yield f"{self._file.option(name)}: stands in no section"

    def settings(self) -> Settings:
        """All of the settings, with defaults where a value is missing or wrong."""
        values = {name: self._section(name) for name in SECTIONS}
        sections: dict[str, Any] = {name: SECTIONS[name](**values[name]) for name in SECTIONS}
        models, default_model = read_models(
            self._tables.get("models", {}), self._file.table("models"), self.faults
        )
        limits, admin = limits_of(values["limits"]), self._admin(values["admin"])
        alerts = read_webhooks(
            self._tables, self._environ, self._file, self.faults, serving=self._serving
        )
        return Settings(
            **(sections | {"limits": limits, "admin": admin, "alerts": alerts}),
            models=models,
            default_model=default_model,
        )

    def _admin(self, values: dict[str, Any]) -> AdminSettings:
        """The section with its tokens by name."""
        table = self._tables.get("admin", {})
        tokens = table.get("tokens", {}) if isinstance(table, dict) else {}
        place = self._file.table("admin").table("tokens")
        return AdminSettings(**values, tokens=read_tokens(tokens, place, self.faults))

    def _section(self, section: str) -> dict[str, Any]:
        """The right values of a section's options, wherever they stand."""
        table, options = self._tables.get(section, {}), _OPTIONS[section]
        place, tables = self._file.table(section), _TABLES.get(section, ())
        values = read_table(table, options, place, self.faults, tables=tables)
        written = table if isinstance(table, dict) else options
        self._wrong.update(f"{section}.{name}" for name in written if name not in values)
        for name, option in options.items():
            variable = variable_of(section, name)
            if variable in self._environ:
                where = self._places[f"{section}.{name}"] = variable_place(variable)
                try:
                    values[name] = value_of(option, self._environ[variable])
                except ValueError as error:
                    self.faults.append(f"{where}: {error}")
                    self._wrong.add(f"{section}.{name}")
        return values

    def broken(self, rules: tuple[Rule, ...], settings: Settings) -> list[str]:
        """A line for each broken rule, with the place of the option that is to blame."""
        return [
            f"{self._place(option)}: {text}"
            for option, text in broken(rules, settings, self._wrong)
        ]

    def _place(self, option: str) -> str:
        section, _, name = option.partition(".")
        return self._places.get(option) or self._file.table(section).option(name)
