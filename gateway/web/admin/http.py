"""Requests to the admin port, reading their bodies, and answers.

Answers are JSON with the headers that keep it out of caches.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, get_origin

from aiohttp import web
from msgspec import Struct, json
from msgspec.structs import fields

from gateway.config import options
from gateway.core.faults import BODY, Faults
from gateway.core.listing import json_pieces
from gateway.core.strict_json import read_object
from gateway.core.tasks import in_turns
from gateway.tenants.changes import Actor
from gateway.web.body import read_json_body
from gateway.web.body_budget import BodyBudget, BodyLimits, BodyShare
from gateway.web.query import refuse
from gateway.web.routes import Route

S = TypeVar("S", bound=Struct)

API = "/admin/v1"
"""The prefix of the paths of the admin API."""

MAX_BODY_BYTES = 1_048_576

BODY_LIMITS = BodyLimits(of_sender=8 * MAX_BODY_BYTES, in_all=32 * MAX_BODY_BYTES)
"""Of the bodies that are arriving. A sender is an admin token, or everybody without one."""

HEADERS = {
    "Content-Type": "application/json",
    "Server": "image-gateway",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


class AdminRequest(Struct, frozen=True):
    """One request to the admin port. `params` are the values of the parameters in the path."""

    request: web.BaseRequest
    by: Actor
    params: Mapping[str, str]
    query: Any
    bodies: BodyBudget


AdminRoute = Route[AdminRequest]
AdminHandler = Callable[[AdminRequest], Awaitable[object]]


def answer(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with JSON."""
    return _json(json.encode(value), status, headers)


async def answer_result(result: object, status: int) -> web.Response:
    """Answer with JSON. A Struct appears in its public form, and a long one is made in turns."""
    if not isinstance(result, Struct):
        return answer(result, status)
    pieces = [piece async for piece in in_turns(json_pieces(result))]
    return _json(b"".join(pieces), status)


def _json(body: bytes, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=body, headers={**HEADERS, **(headers or {})})


async def read_json(call: AdminRequest, limit: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """Read a body of at most `limit` bytes as a JSON object, {} where there is no body.

    Raises InvalidRequest, or RateLimited or Overloaded if the budget of bodies is used up.
    """
    if not call.request.body_exists:
        return {}
    share = BodyShare(call.bodies, call.by.who)
    try:
        return read_object(await read_json_body(call.request, limit, share))
    finally:
        share.release()


def read_fields(table: dict[str, Any], of: type[S]) -> S:
    """Read a body into the fields of a Struct. Raises InvalidFields with every fault.

    A field that is a Struct itself, such as `limits`, is a table inside the body. A field that is a
    dict takes any JSON object.
    """
    faults = Faults(BODY)
    objects = [field.name for field in fields(of) if get_origin(field.type) is dict]
    values = options.read_fields(table, of, faults, tables=objects)
    for name in objects:
        values[name] = table.get(name)
        if not isinstance(values[name], dict):
            faults.add("must be an object" if name in table else "is needed", name)
    refuse(faults.found)
    return of(**values)
