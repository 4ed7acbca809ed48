"""Reading the configuration again while the gateway runs.

It is checked whole before anything changes: with one fault, all stays as it was. Then it is
swapped whole. What is under way goes on with the configuration it began with.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from gateway.config.diff import reloaded
from gateway.config.errors import ConfigError
from gateway.config.settings import Settings
from gateway.core.faults import Fault
from gateway.reporting.alerts.http import file_faults
from gateway.server.gateway import Gateway
from gateway.server.tls import Certificate, Loaded
from gateway.telemetry.logging import set_level
from gateway.upstream.credentials import with_key

log = structlog.get_logger(source="gateway")

Read = Callable[[], tuple[Settings, list[Fault]]]
"""The settings as they are written now, and warnings. Raises ConfigError."""


async def reload(gateway: Gateway, read: Read) -> None:
    """Have the gateway go on with what `read` finds, or tell every fault of it in the log."""
    try:
        found = await asyncio.to_thread(_checked, read, gateway.certificate)
    except ConfigError as error:
        _tell(error.faults)
        return
    for warning in found.warnings:
        log.warning("configuration doubtful", doubt=str(warning))
    _swap(gateway, found)


def _tell(faults: Sequence[Fault]) -> None:
    for fault in faults:
        log.error("configuration kept", fault=str(fault))


class _Found(NamedTuple):
    """What was read: settings with their key, warnings, and the certificate if there is one."""

    settings: Settings
    warnings: Sequence[Fault]
    certificate: Loaded | None


def _checked(read: Read, certificate: Certificate | None) -> _Found:
    settings, warnings = read()
    loaded = None
    faults = [
        Fault(("alerts", "webhooks", name, option), message)
        for name, option, message in file_faults(settings.alerts.webhooks.values())
    ]
    try:
        settings = replace(settings, upstream=with_key(settings.upstream))
    except ValueError as error:
        faults.append(Fault(("upstream", "api_key_file"), str(error)))
    try:
        loaded = certificate.read() if certificate else None
    except ValueError as error:
        faults.append(Fault(("server", "tls_cert"), str(error)))
    if faults:
        raise ConfigError(faults)
    return _Found(settings, warnings, loaded)


def _swap(gateway: Gateway, found: _Found) -> None:
    outcome = reloaded(gateway.settings, found.settings)
    gateway.use(outcome.settings)
    set_level(outcome.settings.log.level)
    for option in outcome.waiting:
        log.warning("needs a restart", option=option)
    certificate = found.certificate
    renewed = gateway.certificate and certificate and gateway.certificate.show(certificate)
    files = ["[server] tls_cert"] if renewed else []
    log.info("configuration read again", changed=[*outcome.changed, *files])
