"""The command `gateway alerts test`."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import click

from gateway.cli.base import Command, Group, config_option, read_settings
from gateway.config.webhooks import Webhook
from gateway.reporting.alerts.http import HttpWebhooks, Receipt
from gateway.reporting.alerts.message import message
from gateway.reporting.alerts.rules import trial_alert


@click.group(cls=Group)
def alerts() -> None:
    """Test the webhooks that receive alerts."""


@alerts.command("test", cls=Command)
@click.option("--webhook", metavar="NAME", help="Only this webhook. Without it: all webhooks.")
@config_option
def test(webhook: str | None, config: Path | None) -> None:
    """Send a test message to each webhook, and show what the receiver answers.

    This works without a running gateway. The exit code is 1 if a message was not delivered.

    \b
    Example:
      gateway alerts test --webhook ops
    """
    known = read_settings(config).alerts.webhooks
    if webhook is not None and webhook not in known:
        names = ", ".join(known) or "none"
        raise click.UsageError(f"There is no such webhook. The configuration has: {names}.")
    if not known:
        raise click.ClickException("No webhook is configured: add an [alerts.webhooks.NAME].")
    chosen = [hook for name, hook in known.items() if webhook in (None, name)]
    receipts = asyncio.run(_send(chosen))
    for hook, receipt in zip(chosen, receipts, strict=True):
        outcome = "sent" if receipt.delivered else "NOT SENT"
        click.echo(f"{hook.name} ({hook.kind}, {hook.shown}): {outcome}, {receipt.detail}")
    if not all(receipt.delivered for receipt in receipts):
        click.get_current_context().exit(1)


async def _send(chosen: Sequence[Webhook]) -> list[Receipt]:
    async def send(sender: HttpWebhooks, hook: Webhook) -> Receipt:
        now, id = time.time(), f"msg_{secrets.token_hex(16)}"
        body = message(hook.kind, trial_alert(hook.name, now), id)
        return await sender.send(hook, id, body, now)

    async with HttpWebhooks() as sender:
        return list(await asyncio.gather(*(send(sender, hook) for hook in chosen)))
