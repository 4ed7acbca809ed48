"""The OpenAPI 3.1 document: the ports' tables of routes in another form.

It also describes the messages to webhooks: one for each event.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import cleandoc
from typing import Any, get_args

from msgspec import UNSET, Struct, UnsetType, json
from msgspec.inspect import VarTupleType
from msgspec.structs import fields

from gateway import __version__
from gateway.config.options import Micro, descriptions, option
from gateway.config.values import TeamLimits
from gateway.core.listing import public_type
from gateway.reporting.alerts.message import Body
from gateway.reporting.alerts.rules import Event
from gateway.reporting.queries import Span
from gateway.web import openapi_errors as errors
from gateway.web.routes import Route

VERSION = "3.1.0"
_TEMPLATE = "#/components/schemas/{name}"


class FaultFields(Struct, frozen=True, kw_only=True):
    """One wrong field: the names that lead to it, outermost first, and what is wrong."""

    path: list[str]
    message: str


class ErrorFields(Struct, frozen=True, kw_only=True):
    """One error. `param` is the first wrong field. With code invalid_fields, `faults` has all."""

    message: str
    type: str
    param: str | None
    code: str | None
    faults: list[FaultFields] | UnsetType = UNSET


class ErrorBody(Struct, frozen=True, kw_only=True):
    """The body of every error of both ports."""

    error: ErrorFields


class DocumentedPort(Struct, frozen=True, kw_only=True):
    """The routes of one port. `security` names the scheme that its callers authenticate with."""

    url: str
    security: str
    routes: Sequence[Route[Any]]


ADMIN = "adminToken"
TEAM = "teamKey"
SECURITY = {
    ADMIN: "An admin token: GATEWAY_ADMIN_TOKEN or one of [admin.tokens].",
    TEAM: "A team's key, sk-gw-...",
}


def document(ports: Sequence[DocumentedPort]) -> bytes:
    """Return the document as JSON. It leaves out pages and probes, which have no response type."""
    served = [(port, route) for port in ports for route in port.routes if route.response]
    bodies = {route.body: route.path for _, route in served if route.body is not None}
    types: list[type[Struct]] = sorted({*bodies, ErrorBody, Body}, key=str)
    responses = [public_type(route.response) for _, route in served]
    responses += [route.accepted for _, route in served if route.accepted]
    _, components = _schemas([*types, *responses])
    # Bodies of the admin API: unknown fields are refused.
    strict = [of for of, path in bodies.items() if path.startswith("/admin")]
    tables: list[type[Struct]] = [*strict, TeamLimits]
    for of in tables:
        schema = components[of.__name__]
        schema["additionalProperties"] = False
        for name, text in descriptions(of).items():
            schema["properties"][name]["description"] = text
    for schema in components.values():
        text = cleandoc(schema.get("description", ""))
        schema["description"] = text.partition("\n\nOptions:")[0]
    paths: dict[str, dict[str, Any]] = {}
    for port, route in served:
        item = paths.setdefault(route.path.replace("*}", "}"), {"servers": [{"url": port.url}]})
        item[route.method.lower()] = _operation(route, port.security)
    found = {
        "openapi": VERSION,
        "info": {
            "title": "Image gateway",
            "version": __version__,
            "description": "Times are ISO 8601 in UTC, money is dollars as decimal text.",
        },
        "paths": paths,
        "webhooks": {event: {"post": _message(event)} for event in get_args(Event)},
        "components": {
            "schemas": components,
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": text}
                for name, text in SECURITY.items()
            },
        },
    }
    # Python and JSON Schema write the ends of a pattern differently.
    return json.encode(found).replace(rb"\\A", b"^").replace(rb"\\Z", b"$")


def _operation(route: Route[Any], security: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", route.path)]),
        "summary": route.summary,
        "tags": [route.path.removeprefix("/api").removeprefix("/admin").split("/")[2]],
        "security": [] if route.is_open else [{security: []}],
        "parameters": list(_parameters(route)),
        "responses": _responses(route, security),
    }
    if route.body is not None:
        needed = any(field.required for field in fields(route.body))
        example = {"example": route.example} if route.example else {}
        content = {"application/json": {"schema": _schema(route.body), **example}}
        operation["requestBody"] = {"required": needed, "content": content}
    return operation


SEGMENT = "^[A-Za-z0-9._-]+$"
"""A parameter in a path, as `gateway.web.routes` reads it."""

_PATH_EXAMPLES = {
    "team": "design",
    "id": "sk-gw-0123456789ab",
    "model": "gpt-image-2",
    "operation": "5f3a9c0e1b7d42688a4d6e2f90b1c3d7",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
_REQUEST_ID = "Your id for this request, for logs. The answer repeats it, or has a new one."


def _parameters(route: Route[Any]) -> Iterator[dict[str, Any]]:
    """The parameters in the path, in the query and in the headers."""
    text = {"type": "string"}
    for name, is_rest in re.findall(r"\{(\w+)(\*?)\}", route.path):
        about = {"required": True, "example": _PATH_EXAMPLES[name]}
        schema = {**text, "minLength": 1} if is_rest else {**text, "pattern": SEGMENT}
        yield {"name": name, "in": "path", **about, "schema": schema}
    for field in fields(route.query):
        name, about = field.encode_name, {"required": field.required}
        if isinstance(option(field.type).kind, VarTupleType):  # a list, written with commas
            about["explode"] = False
        if name == "from" and issubclass(route.query, Span):
            about["description"] = (
                f"At most {route.query.most_days} days before `to`, or before now."
            )
        if route.body is None and name in route.example:
            about["example"] = route.example[name]
        yield {"name": name, "in": "query", **about, "schema": _schema(field.type)}
    for name, description in {"X-Request-Id": _REQUEST_ID, **route.headers}.items():
        yield {"name": name, "in": "header", "description": description, "schema": text}


def _responses(route: Route[Any], security: str) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _schema(public_type(route.response))}}
    if route.has_csv:
        content["text/csv"] = {"schema": {"type": "string"}}
    if route.has_events:
        # The schema is that of one event: OpenAPI 3.1 itself says nothing of streams.
        event = {name: {"type": "string"} for name in ("event", "data")}
        content["text/event-stream"] = {"schema": {"type": "object", "properties": event}}
    good = {route.status, 201} if route.method == "PUT" else {route.status}
    error = {"application/json": {"schema": _schema(ErrorBody)}}
    described = errors.descriptions(_errors(route, security))
    found = {str(status): {"description": "Done", "content": content} for status in sorted(good)}
    if route.accepted is not None:
        later = {"application/json": {"schema": _schema(route.accepted)}}
        found["202"] = {"description": "Not yet: ask again at `url`.", "content": later}
    return found | {
        str(status): {"description": text, "content": error} for status, text in described.items()
    }


def _errors(route: Route[Any], security: str) -> errors.Errors:
    found = errors.ANY_ROUTE + route.errors + (errors.ADMIN if security == ADMIN else errors.TEAM)
    if route.body is not None:
        found += errors.WITH_BODY
    if security == ADMIN and not route.is_safe:
        found += errors.CHANGE
    return found


# -- schemas ------------------------------------------------------------------------------------


def _schema(of: Any) -> dict[str, Any]:
    (schema,), _ = _schemas([of])
    return schema


def _schemas(types: Iterable[Any]) -> tuple[Sequence[dict[str, Any]], dict[str, Any]]:
    return json.schema_components(types, schema_hook=_ours, ref_template=_TEMPLATE)


def _ours(of: type) -> dict[str, Any]:
    """The schema of money, which msgspec does not know: it is read from text or a number."""
    if of is Micro:
        return {
            "type": ["string", "number"],
            "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?$",
            "minimum": 0,
        }
    raise NotImplementedError  # as msgspec's schema_hook reports an unknown type


# -- webhooks -----------------------------------------------------------------------------------

_EVENTS: Mapping[str, str] = {
    "budget_reached": "Usage has reached a percentage of a limit",
    "upstream_auth": "The upstream refuses the gateway's key",
    "upstream_account_exhausted": "The gateway's account at the upstream is out of credit",
    "excess_images": "The upstream delivered more images than a request asked for",
    "unknown_charges": "A day's unknown charges exceed the webhook's threshold",
    "test": "A test, from 'gateway alerts test'",
}
_MESSAGE_HEADERS: Mapping[str, str] = {
    "webhook-id": "The message's id, the same at each attempt: use it to drop duplicates.",
    "webhook-timestamp": "Seconds since the epoch of this attempt.",
    "webhook-signature": "As in Standard Webhooks, if the webhook has a secret: v1, and the base64 "
    "of HMAC-SHA256 over id, timestamp and body, joined by dots.",
}


def _message(event: str) -> dict[str, Any]:
    narrowed = {"allOf": [_schema(Body), {"properties": {"event": {"const": event}}}]}
    return {
        "operationId": f"webhook_{event}",
        "summary": _EVENTS[event],
        "tags": ["webhooks"],
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": name != "webhook-signature"}
            | {"description": text, "schema": {"type": "string"}}
            for name, text in _MESSAGE_HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": narrowed}}},
        "responses": {
            "2XX": {"description": "The receiver accepted the message."},
            "default": {"description": "The gateway tries again after 408, 425, 429 and 5xx."},
        },
    }
