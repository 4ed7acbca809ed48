"""The shape of the admin API: a route says what it takes and gives, and is served by it.

The types that a route names are those that its requests are checked by, and those that the
OpenAPI document is made of.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from aiohttp import web
from msgspec import Struct, json
from msgspec.structs import fields
from multidict import MultiMapping

from gateway.config.environment import value_of
from gateway.config.errors import did_you_mean
from gateway.config.options import option, options_of, read_table
from gateway.core.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound
from gateway.core.faults import BODY, Fault, Faults
from gateway.core.listing import listing
from gateway.core.money import dollars
from gateway.core.strict_json import read_object
from gateway.tenants.operations import Actor
from gateway.web.body import read_json_body

S = TypeVar("S", bound=Struct)

MAX_BODY_BYTES = 1_048_576

HEADERS = {
    "Content-Type": "application/json",
    "Server": "image-gateway",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


class Nothing(Struct, frozen=True):
    """What a route takes that takes nothing."""


class Asked(Struct, frozen=True):
    """One request to the admin API. `path` holds what stands in the path's braces."""

    request: web.BaseRequest
    by: Actor
    path: Mapping[str, str]
    query: Any


Handler = Callable[[Asked], Awaitable[web.StreamResponse]]


class Route(Struct, frozen=True, kw_only=True):
    """One operation. `body` None: it takes none; `answer` is the type of a good answer's JSON.

    `statuses` are those of errors besides what every route may answer. `conditional` ones heed
    If-Match. One that `reads` is open to viewers, whatever its method; one that `buys` asks for
    images. `headers` are those that it heeds, by name. `example` is a body as somebody may send it,
    or, where it takes none, a query.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answer: Any
    query: type[Struct] = Nothing
    body: type[Struct] | None = None
    status: int = 200
    statuses: tuple[int, ...] = ()
    csv: bool = False
    conditional: bool = False
    reads: bool = False
    buys: bool = False
    headers: Mapping[str, str] = {}
    example: Mapping[str, Any] = {}

    @property
    def pattern(self) -> re.Pattern[str]:
        """What matches its paths."""
        return re.compile(
            re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[A-Za-z0-9._-]+)", re.escape(self.path))
        )


class Router:
    """Finds the route of a request, by path, then by method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(route.pattern, route) for route in routes]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route, and what stands in its braces. Raises NotFound or MethodNotAllowed.

        The path is compared as it came, undecoded.
        """
        found = [
            (route, match.groupdict())
            for pattern, route in self._routes
            if (match := pattern.fullmatch(path)) is not None
        ]
        for route, names in found:
            if route.method == method:
                return route, names
        if found:
            raise MethodNotAllowed(", ".join(route.method for route, _ in found))
        raise NotFound


# -- reading ------------------------------------------------------------------------------------


def read_query(given: MultiMapping[str], of: type[S]) -> S:
    """The query of a URL as `of` says it. Raises InvalidRequest with every fault."""
    known = {field.encode_name: field for field in fields(of)}
    values, faults = dict[str, Any](), Faults()
    for name in dict.fromkeys(given):
        if name not in known:
            faults.add(f"no such parameter{did_you_mean(name, known)}", name)
            continue
        wanted, texts = option(known[name].type), given.getall(name)
        many = "a list" in wanted.valid
        try:
            if len(texts) > 1 and not many:
                raise ValueError("is given twice")
            values[known[name].name] = value_of(wanted, ",".join(texts))
        except ValueError as error:
            faults.add(str(error), name)
    refuse(faults.found)
    return of(**values)


async def read_json(request: web.BaseRequest) -> dict[str, Any]:
    """The JSON object that a request's body is; {} where it has none. Raises InvalidRequest."""
    if not request.body_exists:
        return {}
    return read_object(await read_json_body(request, MAX_BODY_BYTES))


async def read_body(request: web.BaseRequest) -> dict[str, Any]:
    """The same with numbers that may be money as exact text. Raises InvalidRequest."""
    return {name: _exact(value) for name, value in (await read_json(request)).items()}


def read_fields(table: Mapping[str, Any], of: type[S], *, limits: type[Struct] | None = None) -> S:
    """The fields of a body as `of` says them. Raises InvalidRequest with every fault.

    `limits` is the type of the table of that name, if `of` has one.
    """
    faults = Faults(BODY)
    tables = [] if limits is None else ["limits"]
    flat = [field.name for field in fields(of) if field.name not in tables]
    values = read_table(dict(table), options_of(of, flat), faults, tables=tables)
    if limits is not None:
        inner = read_table(table.get("limits", {}), options_of(limits), faults.at("limits"))
        values["limits"] = limits(**inner)
    for name in [field.name for field in fields(of) if field.required]:
        if name not in table:
            faults.add("is needed", name)
    refuse(faults.found)
    return of(**values)


def refuse(faults: Sequence[Fault]) -> None:
    """Raise InvalidRequest if there are faults. Its `param` is the first one's field."""
    if faults:
        fields = [".".join(map(_shown, fault.path)) for fault in faults]
        messages = [
            ": ".join(filter(None, (fault.source, field, fault.message)))
            for fault, field in zip(faults, fields, strict=True)
        ]
        raise InvalidRequest("; ".join(messages) + ".", param=fields[0], code="invalid_fields")


def _exact(value: Any) -> Any:
    """JSON's numbers with a point as text where they are money: 2.5 dollars are 2.50, exactly."""
    if isinstance(value, dict):
        return {name: _exact(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return _dollars_text(value)
    return value


def _dollars_text(value: float) -> object:
    text = repr(value)
    try:
        dollars(text)
    except ValueError:
        return value
    return text


def _shown(name: str) -> str:
    return name[:64].encode("unicode_escape").decode()


# -- answering ----------------------------------------------------------------------------------


def answer(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An answer in JSON. A record is sent in its public form."""
    body = listing(value) if isinstance(value, Struct) else value
    return web.Response(
        status=status, body=json.encode(body), headers={**HEADERS, **(headers or {})}
    )


def failure(error: GatewayError) -> dict[str, str]:
    """The headers of an error's answer."""
    return {**HEADERS, **error.headers}
