"""The message to a webhook: its body in JSON or for Slack, and its Standard Webhooks headers.

The signature covers the id, the time and the body. With it a receiver detects forged messages and
replayed ones. By the id it detects duplicates.
"""

import base64
import hashlib
import hmac

import msgspec
from msgspec import Struct

from gateway import __version__
from gateway.config.webhooks import WebhookKind
from gateway.core.periods import utc
from gateway.reporting.alerts.rules import Alert, amount


class Body(Struct, frozen=True, kw_only=True):
    """The JSON body. Later versions may add fields, but never change or remove one."""

    event: str
    id: str
    at: str
    team: str | None
    key: str | None
    limit: str | None
    percent: int | None
    used: int | str | None
    limit_value: int | str | None
    resets_at: str | None
    text: str


def body_of(alert: Alert, id: str) -> Body:
    """Return the body of an alert."""
    return Body(
        event=alert.event,
        id=id,
        at=utc(alert.at),
        team=alert.team,
        key=alert.key,
        limit=alert.limit,
        percent=alert.percent,
        used=amount(alert.limit, alert.used),
        limit_value=amount(alert.limit, alert.limit_value),
        resets_at=None if alert.resets_at is None else utc(alert.resets_at),
        text=alert.text,
    )


def message(kind: WebhookKind, alert: Alert, id: str) -> bytes:
    """Return the body of a message to this kind of webhook."""
    if kind == "slack":
        return msgspec.json.encode({"text": _escaped(alert.text)})
    return msgspec.json.encode(body_of(alert, id))


def headers(id: str, body: bytes, now: float, secret: bytes | None) -> dict[str, str]:
    """Return the headers of one attempt, with a signature if there is a secret."""
    at = str(int(now))
    found = {
        "Content-Type": "application/json",
        "User-Agent": f"image-gateway/{__version__}",
        "webhook-id": id,
        "webhook-timestamp": at,
    }
    if secret is not None:
        found["webhook-signature"] = signature(secret, id, at, body)
    return found


def signature(secret: bytes, id: str, at: str, body: bytes) -> str:
    """Return the signature, which proves that the sender knows the secret."""
    digest = hmac.new(secret, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _escaped(text: str) -> str:
    """Escape Slack's markup, so that text cannot mention anybody or link anywhere."""
    for mark, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b")):
        text = text.replace(mark, instead)
    return text
