"""Reads gateway.toml and the environment into Settings, or finds every fault in them at once.

Each section is read option by option, so that one fault does not hide another. The command line
outranks the environment, and the environment outranks the file. A wrong value in the file
is a fault even where the environment overrides it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from gateway.config.admin_tokens import read_tokens
from gateway.config.checks import ALWAYS, DOUBTS, WITH_UPSTREAM, Rule, broken
from gateway.config.environment import find_stray_variables, set_variables, value_of
from gateway.config.errors import ConfigError, did_you_mean
from gateway.config.limits import limits_of
from gateway.config.model_tables import read_models
from gateway.config.options import read_table
from gateway.config.settings import OPTIONS, SECTIONS, TABLES, Settings
from gateway.config.toml import parse_toml
from gateway.config.webhooks import read_webhooks, variables_of
from gateway.core.faults import COMMAND_LINE, DEFAULT, ENVIRONMENT, Fault, Faults, shown

_VARIABLES = {str(option.variable) for options in OPTIONS.values() for option in options.values()}


class Sources(Struct, frozen=True):
    """Where options are set, in falling rank: the command line, the environment, the file.

    `arguments` are texts by "section.option". `file` is None if there is no file.
    """

    file: str | None
    environ: Mapping[str, str]
    arguments: Mapping[str, str] = {}

    def text(self, section: str, name: str) -> str | None:
        """Return the text that outranks the file, if there is one."""
        variable = OPTIONS[section][name].variable
        return self.arguments.get(f"{section}.{name}", self.environ.get(str(variable)))

    def faults_of(self, section: str, name: str, found: list[Fault]) -> Faults:
        """Collect faults of an option at the place that sets it."""
        option = OPTIONS[section][name]
        in_environment = Faults(ENVIRONMENT, (str(option.variable),), found)
        if f"{section}.{name}" in self.arguments:
            return Faults(COMMAND_LINE, (f"--{name.replace('_', '-')}",), found)
        if str(option.variable) in self.environ:
            return in_environment
        if self.file is not None:
            return Faults(self.file, (section, name), found)
        return Faults(DEFAULT, (section, name), found) if option.default else in_environment


def read_settings(
    text: str | None,
    environ: Mapping[str, str],
    *,
    file: str = "config/gateway.toml",
    arguments: Mapping[str, str] | None = None,
    needs_upstream: bool = False,
) -> tuple[Settings, list[Fault]]:
    """Return the settings, and warnings. `text` is None if there is no file.

    With `needs_upstream`, it is a fault if the URL or the key of the upstream is missing, or an
    environment variable that a webhook names. Raises ConfigError with every fault.
    """
    tables = parse_toml(text or "", file)
    sources = Sources(None if text is None else file, set_variables(environ), arguments or {})
    reading = _Reading(tables, sources, file)
    settings = reading.settings(serving=needs_upstream)
    reading.check(ALWAYS + WITH_UPSTREAM if needs_upstream else ALWAYS, settings, reading.found)
    if reading.found:
        raise ConfigError(reading.found)
    reading.check(DOUBTS, settings, reading.warnings)
    return settings, reading.warnings


class _Reading:
    """One reading, with the faults and warnings found so far.

    `_wrong` has the options whose values are wrong, as "section.option".
    """

    def __init__(self, tables: Mapping[str, Any], sources: Sources, file: str) -> None:
        self._tables, self._sources = tables, sources
        self._wrong: set[str] = set()
        self.found: list[Fault] = []
        self.warnings: list[Fault] = []
        self._faults = Faults(file, (), self.found)
        self._find_unknown_tables()
        find_stray_variables(
            sources.environ,
            {*_VARIABLES, *variables_of(self._table("alerts", "webhooks"))},
            SECTIONS,
            Faults(ENVIRONMENT, (), self.found),
            Faults(ENVIRONMENT, (), self.warnings),
        )

    def _find_unknown_tables(self) -> None:
        known = [*SECTIONS, "models"]
        for name in [name for name in self._tables if name not in known]:
            if isinstance(self._tables[name], dict):
                self._faults.add(f"no such section{did_you_mean(name, known)}", name)
            else:
                self._faults.add(f"the option {shown(name)} is in no section")

    def settings(self, *, serving: bool) -> Settings:
        """Return all settings, with defaults for missing and wrong values."""
        values = {name: self._section(name) for name in SECTIONS}
        values["admin"]["tokens"] = read_tokens(
            self._table("admin", "tokens"), self._faults.at("admin", "tokens")
        )
        values["alerts"]["webhooks"] = read_webhooks(
            self._table("alerts", "webhooks"),
            self._sources.environ,
            self._faults.at("alerts", "webhooks"),
            serving=serving,
        )
        sections: dict[str, Any] = {name: SECTIONS[name](**values[name]) for name in SECTIONS}
        sections["limits"] = limits_of(values["limits"])
        models, default_model = read_models(
            self._tables.get("models", {}), self._faults.at("models")
        )
        return Settings(**sections, models=models, default_model=default_model)

    def _table(self, section: str, name: str) -> object:
        """Return a table inside a section. The section itself may be wrong."""
        table = self._tables.get(section, {})
        return table.get(name, {}) if isinstance(table, dict) else {}

    def _section(self, section: str) -> dict[str, Any]:
        """Return the valid values of a section's options."""
        table, options = self._tables.get(section, {}), OPTIONS[section]
        values = read_table(table, options, self._faults.at(section), tables=TABLES[section])
        written = table if isinstance(table, dict) else options
        self._wrong.update(f"{section}.{name}" for name in written if name not in values)
        for name, option in options.items():
            text = self._sources.text(section, name)
            if text is not None:
                try:
                    values[name] = value_of(option, text)
                except ValueError as error:
                    self._sources.faults_of(section, name, self.found).add(str(error))
                    self._wrong.add(f"{section}.{name}")
        return values

    def check(self, rules: Iterable[Rule], settings: Settings, found: list[Fault]) -> None:
        """Add a fault to `found` for each broken rule, at the option that is to blame."""
        for (section, name), message in broken(rules, settings, self._wrong):
            self._sources.faults_of(section, name, found).add(message)
