"""What is wrong with settings that are each right by themselves."""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from gateway.config.settings import ServerSettings, Settings
from gateway.core.redaction import scrub

_EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, never listened on


class Rule(NamedTuple):
    """Settings that must fit together. The first of the `names` (section.option) is blamed.

    `{url}` in the text stands for the upstream's.
    """

    names: tuple[str, ...]
    broken: Callable[[Settings], bool]
    text: str


def _share_port(server: ServerSettings) -> bool:
    hosts = {server.host, server.admin_host}
    one_place = len(hosts) == 1 or not hosts.isdisjoint(_EVERY_ADDRESS)
    return one_place and server.port == server.admin_port != 0


def _doubles_version(settings: Settings) -> bool:
    return settings.upstream.base_url.endswith("/v1") and "/v1/" in settings.upstream.path


ALWAYS = (
    Rule(
        ("server.admin_port", "server.port", "server.host", "server.admin_host"),
        lambda settings: _share_port(settings.server),
        "must differ from port on the same host",
    ),
    Rule(
        ("server.tls_cert", "server.tls_key"),
        lambda settings: settings.server.tls_key is not None and settings.server.tls_cert is None,
        "is needed beside tls_key",
    ),
    Rule(
        ("server.tls_key", "server.tls_cert"),
        lambda settings: settings.server.tls_cert is not None and settings.server.tls_key is None,
        "is needed beside tls_cert",
    ),
    Rule(
        ("upstream.timeout_seconds", "upstream.connect_seconds"),
        lambda settings: settings.upstream.timeout_seconds <= settings.upstream.connect_seconds,
        "must be above connect_seconds",
    ),
)

WITH_UPSTREAM = (
    Rule(
        ("upstream.base_url",),
        lambda settings: not settings.upstream.base_url,
        "needs a value, here or in the environment as GATEWAY_UPSTREAM_BASE_URL",
    ),
    Rule(
        ("upstream.api_key_file", "upstream.api_key"),
        lambda settings: not (settings.upstream.api_key or settings.upstream.api_key_file),
        "needs a value, or the key itself in the environment as GATEWAY_UPSTREAM_API_KEY",
    ),
)

DOUBTS = (
    Rule(
        ("upstream.base_url", "upstream.path"),
        _doubles_version,
        "ends in /v1, which path has already: {url} will be called; it is scheme and host alone",
    ),
)
"""Broken ones are worth a warning."""


def broken(
    rules: Collection[Rule], settings: Settings, wrong: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The blamed option and the text of each broken rule. Options in `wrong` are left alone:
    their faults are told already, and the settings have defaults in their stead.
    """
    for rule in rules:
        if not any(name in wrong for name in rule.names) and rule.broken(settings):
            yield rule.names[0], rule.text.format(url=_shown(settings.upstream.url))


def _shown(url: str) -> str:
    """The URL as it may be told: somebody may have put a key into it."""
    return scrub(url.encode(), ()).decode()
