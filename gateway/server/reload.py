"""Reloads the configuration while the gateway runs.

It is checked as a whole first: with one fault, nothing changes. Then it is replaced as a whole.
Requests in flight keep the configuration that they began with.
"""

import asyncio
from collections.abc import Callable

import structlog
from msgspec.structs import replace

from gateway.config.live import reloaded
from gateway.config.settings import Settings
from gateway.core.faults import ConfigError, Fault
from gateway.reporting.alerts.http import file_faults
from gateway.server.gateway import Gateway
from gateway.server.tls import Certificate, LoadedCertificate
from gateway.telemetry.logging import set_level
from gateway.upstream.credentials import with_key

log = structlog.get_logger(source="gateway")

Read = Callable[[], tuple[Settings, list[Fault]]]
"""Returns the current content of the configuration, and warnings. Raises ConfigError."""


async def reload(gateway: Gateway, read: Read) -> None:
    """Put the configuration that `read` returns in force, or log all its faults."""
    try:
        settings, warnings, certificate = await asyncio.to_thread(_load, read, gateway.certificate)
    except ConfigError as error:
        for fault in error.faults:
            log.error("configuration kept", fault=str(fault))  # noqa: TRY400 - faults say it all
        return
    for warning in warnings:
        log.warning("configuration warning", doubt=str(warning))
    outcome = reloaded(gateway.settings, settings)
    gateway.use(outcome.settings)
    set_level(outcome.settings.log.level)
    for option in outcome.waiting:
        log.warning("needs a restart", option=option)
    renewed = gateway.certificate and certificate and gateway.certificate.use(certificate)
    files = ["[server] tls_cert"] if renewed else []
    log.info("configuration read again", changed=[*outcome.changed, *files])


def _load(
    read: Read, certificate: Certificate | None
) -> tuple[Settings, list[Fault], LoadedCertificate | None]:
    """Read the configuration and the files that it names. Raises ConfigError with all faults.

    The settings returned contain the upstream key.
    """
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
    return settings, warnings, loaded
