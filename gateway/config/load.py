"""Reads gateway.toml and the environment into Settings, or finds every fault in them at once.

Each section is read option by option, so that one fault does not hide another. The command line
outranks the environment, and the environment outranks the file. A wrong value in the file
is a fault even where the environment overrides it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from gateway.config.admin_tokens import read_tokens
from gateway.config.environment import find_stray_variables, set_variables, value_of
from gateway.config.images import LINKED, NO_LINKS
from gateway.config.model_tables import read_models
from gateway.config.options import parse_toml, read_table
from gateway.config.settings import OPTIONS, SECTIONS, TABLES, Settings
from gateway.config.values import addresses_of, is_every_address, limits_of
from gateway.config.webhooks import read_webhooks, variables_of
from gateway.core.faults import (
    COMMAND_LINE,
    DEFAULT,
    ENVIRONMENT,
    ConfigError,
    Fault,
    Faults,
    did_you_mean,
    shown,
)
from gateway.core.redaction import redact

Conflict = tuple[tuple[str, ...], str]
"""Options that do not fit together, as "section.option", and the message. The first is to blame."""

_VARIABLES = {str(option.variable) for options in OPTIONS.values() for option in options.values()}


class Sources(Struct, frozen=True):
    """Where options are set, in falling rank: the command line, the environment, the file.

    Options are named "section.option". `arguments` are their texts on the command line. `file` is
    None if there is no file.
    """

    file: str | None
    environ: Mapping[str, str]
    arguments: Mapping[str, str] = {}

    def fault(self, name: str, message: str) -> Fault:
        """Return a fault of an option, at the place that sets it."""
        section, _, last = name.partition(".")
        option = OPTIONS[section][last]
        variable = str(option.variable)
        if name in self.arguments:
            return Fault((f"--{last.replace('_', '-')}",), message, COMMAND_LINE)
        if variable in self.environ or (self.file is None and not option.default):
            return Fault((variable,), message, ENVIRONMENT)
        return Fault((section, last), message, DEFAULT if self.file is None else self.file)


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
    reading = _Reading(tables, sources, file, environ)
    settings = reading.settings(serving=needs_upstream)
    found = [*reading.faults.found, *reading.placed(_conflicts(settings))]
    if needs_upstream:
        found += reading.placed(_missing_to_serve(settings))
    if found:
        raise ConfigError(found)
    return settings, [*reading.warnings.found, *reading.placed(_doubts(settings))]


class _Reading:
    """One reading, with the faults and warnings found so far.

    `_wrong` has the options whose values are wrong. The settings have their defaults instead.
    """

    def __init__(
        self, tables: Mapping[str, Any], sources: Sources, file: str, environ: Mapping[str, str]
    ) -> None:
        self._tables, self._sources = tables, sources
        self._wrong: set[str] = set()
        self.faults = Faults(file)
        self.warnings = Faults(ENVIRONMENT)
        self._find_unknown_tables()
        find_stray_variables(
            environ,
            {*_VARIABLES, *variables_of(self._table("alerts", "webhooks"))},
            SECTIONS,
            Faults(ENVIRONMENT, (), self.faults.found),
            self.warnings,
        )

    def _find_unknown_tables(self) -> None:
        known = [*SECTIONS, "models"]
        for name in [name for name in self._tables if name not in known]:
            if isinstance(self._tables[name], dict):
                self.faults.add(f"no such section{did_you_mean(name, known)}", name)
            else:
                self.faults.add(f"the option {shown(name)} is in no section")

    def settings(self, *, serving: bool) -> Settings:
        """Return all settings, with defaults for missing and wrong values."""
        values = {name: self._section(name) for name in SECTIONS}
        values["admin"]["tokens"] = read_tokens(
            self._table("admin", "tokens"), self.faults.at("admin", "tokens")
        )
        values["alerts"]["webhooks"] = read_webhooks(
            self._table("alerts", "webhooks"),
            self._sources.environ,
            self.faults.at("alerts", "webhooks"),
            serving=serving,
        )
        sections: dict[str, Any] = {name: SECTIONS[name](**values[name]) for name in SECTIONS}
        sections["limits"] = limits_of(values["limits"])
        models, default_model = read_models(
            self._tables.get("models", {}), self.faults.at("models")
        )
        return Settings(**sections, models=models, default_model=default_model)

    def _table(self, section: str, name: str) -> object:
        """Return a table inside a section. The section itself may be wrong."""
        table = self._tables.get(section, {})
        return table.get(name, {}) if isinstance(table, dict) else {}

    def _section(self, section: str) -> dict[str, Any]:
        """Return the valid values of a section's options."""
        table, options = self._tables.get(section, {}), OPTIONS[section]
        values = read_table(table, options, self.faults.at(section), tables=TABLES[section])
        # If the section is no table, all of its options count as wrong.
        written = table if isinstance(table, dict) else options
        self._wrong.update(f"{section}.{name}" for name in written if name not in values)
        for option, declared in options.items():
            name = f"{section}.{option}"
            variable = self._sources.environ.get(str(declared.variable))
            text = self._sources.arguments.get(name, variable)
            if text is not None:
                try:
                    values[option] = value_of(declared, text)
                except ValueError as error:
                    self.faults.found.append(self._sources.fault(name, str(error)))
                    self._wrong.add(name)
        return values

    def placed(self, conflicts: Iterable[Conflict]) -> Iterator[Fault]:
        """Yield the fault of each conflict, unless one of its options is wrong anyway."""
        for names, message in conflicts:
            if self._wrong.isdisjoint(names):
                yield self._sources.fault(names[0], message)


# -- settings that are each valid, but not together ---------------------------------------------


def _conflicts(settings: Settings) -> Iterator[Conflict]:
    server, upstream = settings.server, settings.upstream
    hosts, admin_hosts = addresses_of(server.host), addresses_of(server.admin_host)
    one_place = not set(hosts).isdisjoint(admin_hosts) or any(
        map(is_every_address, hosts + admin_hosts)
    )
    if one_place and server.port == server.admin_port != 0:
        addresses = ("server.admin_port", "server.port", "server.host", "server.admin_host")
        yield addresses, "must differ from port on the same host"
    if server.tls_key and not server.tls_cert:
        yield ("server.tls_cert", "server.tls_key"), "is needed because tls_key is set"
    if server.tls_cert and not server.tls_key:
        yield ("server.tls_key", "server.tls_cert"), "is needed because tls_cert is set"
    if upstream.timeout_seconds <= upstream.connect_seconds:
        timeouts = ("upstream.timeout_seconds", "upstream.connect_seconds")
        yield timeouts, "must be above connect_seconds"
    if settings.store.wait_replicas and settings.store.place.kind == "sqlite":
        yield ("store.wait_replicas", "store.url"), "needs a Redis as the store"
    if settings.images.deliver in LINKED and not settings.has_urls:
        yield ("images.deliver", "images.url", "images.shared", "images.enabled"), NO_LINKS


def _missing_to_serve(settings: Settings) -> Iterator[Conflict]:
    upstream = settings.upstream
    if not upstream.base_url:
        message = "needs a value, in the file or in GATEWAY_UPSTREAM_BASE_URL"
        yield ("upstream.base_url",), message
    if not (upstream.api_key or upstream.api_key_file):
        message = "needs a value, or put the key itself into GATEWAY_UPSTREAM_API_KEY"
        yield ("upstream.api_key_file", "upstream.api_key"), message


def _doubts(settings: Settings) -> Iterator[Conflict]:
    """Yield what only causes a warning."""
    for section, options in OPTIONS.items():
        for name, option in options.items():
            gone = option.notes.get("gone")
            if gone and getattr(getattr(settings, section), name) != option.default:
                yield (f"{section}.{name}",), gone
    upstream = settings.upstream
    if upstream.base_url.endswith("/v1") and "/v1/" in upstream.path:
        url = redact(upstream.url.encode(), ()).decode()
        message = f"ends in /v1, and so does path: the gateway will call {url}. "
        message += "Give scheme and host only"
        yield ("upstream.base_url", "upstream.path"), message
    images = settings.images
    if images.is_bucket and images.max_bytes != OPTIONS["images"]["max_bytes"].default:
        message = "has no effect with a bucket: give the bucket a lifecycle rule"
        yield ("images.max_bytes", "images.url"), message
