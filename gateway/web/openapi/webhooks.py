"""The messages that the gateway sends to webhooks, in the OpenAPI document: one for each event."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from gateway.reporting.alerts.message import Body
from gateway.reporting.alerts.rules import Event

_EVENTS: Mapping[str, str] = {
    "budget_reached": "Usage has reached a percentage of a limit",
    "upstream_auth": "The upstream refuses the gateway's key",
    "unknown_charges": "A day's unknown charges exceed the webhook's threshold",
    "test": "A test, from 'gateway alerts test'",
}
_HEADERS: Mapping[str, str] = {
    "webhook-id": "The message's id, the same at each attempt: use it to drop duplicates.",
    "webhook-timestamp": "Seconds since the epoch of this attempt.",
    "webhook-signature": "As in Standard Webhooks, if the webhook has a secret: v1, and the base64 "
    "of HMAC-SHA256 over id, timestamp and body, joined by dots.",
}


def webhooks(schema: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """The messages by event. `schema` returns the schema of a type."""
    return {event: {"post": _message(event, schema(Body))} for event in get_args(Event)}


def _message(event: str, body: Mapping[str, Any]) -> dict[str, Any]:
    narrowed = {"allOf": [body, {"properties": {"event": {"const": event}}}]}
    return {
        "operationId": f"webhook_{event}",
        "summary": _EVENTS[event],
        "tags": ["webhooks"],
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": name != "webhook-signature"}
            | {"description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": narrowed}}},
        "responses": {
            "2XX": {"description": "The receiver has it."},
            "default": {"description": "The gateway tries again after 408, 425, 429 and 5xx."},
        },
    }
