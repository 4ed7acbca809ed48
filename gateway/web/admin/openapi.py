"""The OpenAPI 3.1 document of both ports, made of the types that check what comes in.

What a route takes and gives stands in its `Route`; here it only changes its form.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, json
from msgspec.structs import FieldInfo, fields

from gateway import __version__
from gateway.config.options import Micro
from gateway.core.listing import public_type
from gateway.reporting.alerts.message import Body
from gateway.web.admin import openapi_errors
from gateway.web.admin.openapi_webhooks import webhooks
from gateway.web.admin.routes import Route

VERSION = "3.1.0"
_TEMPLATE = "#/components/schemas/{name}"


class ErrorFields(Struct, frozen=True, kw_only=True):
    """What went wrong; `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct, frozen=True, kw_only=True):
    """Every error of both ports."""

    error: ErrorFields


class Port(Struct, frozen=True, kw_only=True):
    """The routes of one port. `security` names how its callers prove who they are."""

    url: str
    security: str
    routes: tuple[Route, ...]


ADMIN = "adminToken"
TEAM = "teamKey"
SECURITY = {
    ADMIN: "An admin token: GATEWAY_ADMIN_TOKEN or one of [admin.tokens].",
    TEAM: "A team's key, sk-gw-...",
}


def document(ports: Iterable[Port]) -> dict[str, Any]:
    """The whole document."""
    ports = list(ports)
    routes = [route for port in ports for route in port.routes]
    types = {route.body for route in routes if route.body} | {ErrorBody, Body}
    answers = [public_type(route.answer) for route in routes]
    _, components = _schemas([*sorted(types, key=lambda of: of.__name__), *answers])
    for name in _strict(ports):
        components[name]["additionalProperties"] = False
    paths: dict[str, dict[str, Any]] = {}
    for port in ports:
        for route in port.routes:
            item = paths.setdefault(route.path, {"servers": [{"url": port.url}]})
            item[route.method.lower()] = _operation(route, port.security)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Image gateway",
            "version": __version__,
            "description": "Times are ISO 8601 in UTC, money is dollars as decimal text.",
        },
        "paths": paths,
        "webhooks": webhooks(_schema),
        "components": {
            "schemas": components,
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": text}
                for name, text in SECURITY.items()
            },
        },
    }


def _strict(ports: Iterable[Port]) -> set[str]:
    """The types of bodies in which an unknown field is refused: the admin port's."""
    bodies = {route.body for port in ports for route in port.routes if port.security == ADMIN}
    return {"TeamLimits", *(body.__name__ for body in bodies if body is not None)}


def _operation(route: Route, security: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "tags": [route.path.removeprefix("/api").removeprefix("/admin").split("/")[2]],
        "security": [{security: []}],
        "parameters": [*_path(route), *_query(route), *_headers(route)],
        "responses": _responses(route, security),
    }
    if route.body is not None:
        needed = any(field.required for field in fields(route.body))
        example = {"example": route.example} if route.example else {}
        content = {"application/json": {"schema": _schema(route.body), **example}}
        operation["requestBody"] = {"required": needed, "content": content}
    return operation


def _name(route: Route) -> str:
    words = re.findall(r"\w+", route.path)
    return "_".join([route.method.lower(), *words])


def _path(route: Route) -> list[dict[str, Any]]:
    pattern = {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}
    return [
        {"name": name, "in": "path", "required": True, "schema": pattern}
        | {"example": _PATH_EXAMPLES[name]}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]


_PATH_EXAMPLES = {"team": "design", "id": "sk-gw-0123456789ab"}


def _query(route: Route) -> list[dict[str, Any]]:
    examples = route.example if route.body is None else {}
    return [
        _parameter(field)
        | ({"example": examples[field.encode_name]} if field.encode_name in examples else {})
        for field in fields(route.query)
    ]


def _parameter(field: FieldInfo) -> dict[str, Any]:
    parameter = {
        "name": field.encode_name,
        "in": "query",
        "required": field.required,
        "schema": _schema(field.type),
    }
    return parameter | ({"explode": False} if "tuple" in str(field.type) else {})


def _headers(route: Route) -> list[dict[str, Any]]:
    named = {**_HEADERS, **route.headers, **(_IF_MATCH if route.conditional else {})}
    return [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in named.items()
    ]


_HEADERS = {"X-Request-Id": "Your name for the request, for logs; the answer has it, or ours."}
_IF_MATCH = {"If-Match": "Do it only if the ETag is still this one."}


def _responses(route: Route, security: str) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _schema(public_type(route.answer))}}
    if route.csv:
        content["text/csv"] = {"schema": {"type": "string"}}
    made = (201,) if route.method == "PUT" else ()
    good = {str(status): {"description": "Done", "content": content} for status in
            (route.status, *made)}  # fmt: skip
    error = {"application/json": {"schema": _schema(ErrorBody)}}
    told = openapi_errors.told(_errors(route, security), images=route.buys)
    return good | {
        str(status): {"description": text, "content": error} for status, text in told.items()
    }


def _errors(route: Route, security: str) -> openapi_errors.Errors:
    errors = openapi_errors
    named = tuple(error for error in errors.BY_STATUS if error.status in route.statuses)
    changing = security == ADMIN and not route.reads and route.method != "GET"
    return (
        *errors.ANYWHERE,
        *(errors.ADMIN if security == ADMIN else errors.TEAM),
        *(errors.WITH_BODY if route.body is not None else ()),
        *(errors.IMAGES if route.buys else ()),
        *(errors.CHANGING if changing else ()),
        *named,
    )


# -- schemas ------------------------------------------------------------------------------------


def _schema(of: Any) -> dict[str, Any]:
    (schema,), _ = _schemas([of])
    return schema


def _schemas(types: Iterable[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    found, components = json.schema_components(types, schema_hook=_ours, ref_template=_TEMPLATE)
    return [_ecma(schema) for schema in found], _ecma(components)


def _ours(of: type) -> dict[str, Any]:
    """What msgspec does not know: money, which is taken as text or as a number."""
    if of is Micro:
        return {
            "type": ["string", "number"],
            "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?$",
            "minimum": 0,
        }
    raise NotImplementedError  # how msgspec's schema_hook says that it knows no better


def _ecma(schema: Any) -> Any:
    """Patterns as JSON Schema writes their ends."""
    if isinstance(schema, Mapping):
        return {
            name: value.replace(r"\A", "^").replace(r"\Z", "$")
            if name == "pattern" and isinstance(value, str)
            else _ecma(value)
            for name, value in schema.items()
        }
    if isinstance(schema, list | tuple):
        return [_ecma(value) for value in schema]
    return schema
