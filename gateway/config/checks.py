"""Rules about settings that are each valid, but not together."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from gateway.config.settings import ServerSettings, Settings
from gateway.core.redaction import redact

_EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104 - compared, never listened on


class Rule(NamedTuple):
    """Settings that must fit together. The first of the `names` (section.option) is to blame.

    `{url}` in the text is replaced by the upstream's URL.
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
        "is needed because tls_key is set",
    ),
    Rule(
        ("server.tls_key", "server.tls_cert"),
        lambda settings: settings.server.tls_cert is not None and settings.server.tls_key is None,
        "is needed because tls_cert is set",
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
        "needs a value, in the file or in GATEWAY_UPSTREAM_BASE_URL",
    ),
    Rule(
        ("upstream.api_key_file", "upstream.api_key"),
        lambda settings: not (settings.upstream.api_key or settings.upstream.api_key_file),
        "needs a value, or put the key itself into GATEWAY_UPSTREAM_API_KEY",
    ),
)

DOUBTS = (
    Rule(
        ("upstream.base_url", "upstream.path"),
        _doubles_version,
        "ends in /v1, and so does path: the gateway will call {url}. Give scheme and host only",
    ),
)
"""Rules that only cause a warning."""


def broken(
    rules: Iterable[Rule], settings: Settings, wrong: Collection[str]
) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the option to blame, as section and name, and the message of each broken rule.

    A rule about an option in `wrong` is skipped: that option has a fault already, and the
    settings hold its default instead.
    """
    for rule in rules:
        if not any(name in wrong for name in rule.names) and rule.broken(settings):
            section, _, name = rule.names[0].partition(".")
            yield (section, name), rule.text.format(url=_shown(settings.upstream.url))


def _shown(url: str) -> str:
    """Return the URL without anything that looks like a key."""
    return redact(url.encode(), ()).decode()
