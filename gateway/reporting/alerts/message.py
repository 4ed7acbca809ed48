"""The message to a webhook: its body in either form, and its headers by Standard Webhooks.

The signature is over the id, the time and the body, so a receiver can tell that a message is the
gateway's, that it is not an old one sent again, and by its id one that came twice.
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
    """The generic form. Fields are added to it at times, and none is taken away or changed."""

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
    """An alert as it is told."""
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
    """The body of a message."""
    if kind == "slack":
        return msgspec.json.encode({"text": _escaped(alert.text)})
    return msgspec.json.encode(body_of(alert, id))


def headers(id: str, body: bytes, now: float, secret: bytes | None) -> dict[str, str]:
    """The headers of one attempt to send it, signed where there is a secret."""
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
    """What proves that whoever sent this knows the secret."""
    digest = hmac.new(secret, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _escaped(text: str) -> str:
    """Text in which nothing calls anybody, links anywhere or is a mark of the form's own."""
    for mark, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b")):
        text = text.replace(mark, instead)
    return text
