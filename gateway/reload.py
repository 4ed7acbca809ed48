"""Reading the configuration again while the gateway runs.

It is checked whole before anything changes: with one fault, all stays as it was. Then it is
swapped whole. What is under way goes on with the configuration it began with.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog
from msgspec.structs import replace

from gateway.app import Gateway
from gateway.logs import set_level
from gateway.rules.config_faults import ConfigError, shown
from gateway.rules.reload import reloaded
from gateway.rules.settings import Settings
from gateway.upstream.credentials import with_key
from gateway.upstream.webhook_secrets import file_faults

log = structlog.get_logger(source="gateway")

Read = Callable[[], tuple[Settings, list[str]]]
"""The settings as they are written now, and warnings. Raises ConfigError."""


async def reload(gateway: Gateway, read: Read) -> None:
    """Have the gateway go on with what `read` finds, or tell every fault of it in the log."""
    try:
        found, warnings = await asyncio.to_thread(_checked, read)
    except ConfigError as error:
        _tell(error.faults)
        return
    for warning in warnings:
        log.warning("configuration doubtful", doubt=warning)
    _swap(gateway, found)


def _tell(faults: Sequence[str]) -> None:
    for fault in faults:
        log.error("configuration kept", fault=fault)


def _checked(read: Read) -> tuple[Settings, Sequence[str]]:
    settings, warnings = read()
    faults = [
        f"[alerts.webhooks.{shown(name)}] {option}: {fault}"
        for name, option, fault in file_faults(settings.alerts.webhooks.values())
    ]
    if faults:
        raise ConfigError(faults)
    try:
        return replace(settings, upstream=with_key(settings.upstream)), warnings
    except ValueError as error:
        raise ConfigError([f"[upstream] api_key_file: {error}"]) from None


def _swap(gateway: Gateway, found: Settings) -> None:
    outcome = reloaded(gateway.settings, found)
    gateway.use(outcome.settings)
    set_level(outcome.settings.log.level)
    for option in outcome.waiting:
        log.warning("needs a restart", option=option)
    log.info("configuration read again", changed=outcome.changed)
