"""Routes: each handler is marked with its route, which serves requests and documents them.

The types that a route names are those that requests are checked against, and those that the OpenAPI
document is made from. So the document cannot differ from the service.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, get_type_hints

from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from gateway.core.errors import GatewayError, MethodNotAllowed, NotFound

C = TypeVar("C")
H = TypeVar("H", bound=Callable[..., Awaitable[object]])

_PARAMETER = re.compile(r"\\\{(\w+)\\\}")
_REST = re.compile(r"\\\{(\w+)\\\*\\\}")


class NoParameters(Struct, frozen=True):
    """The query of a route without parameters."""


async def _no_handler(call: object) -> None:
    """Stands in until `routes_of` knows the object whose method is the handler."""


class Route(Struct, Generic[C], frozen=True):
    """One operation of a port, and a decorator that marks a method as its handler.

    `handler` takes the port's own kind of request. It returns the JSON of a good answer, which is
    sent with `status`, or a response of its own.
    In `path`, `{name}` is one segment and `{name*}` is the rest of the path. `response` is the type
    of the JSON that a good answer has; a route without one is left out of the OpenAPI document. The
    default is the type that a marked method returns, unless that is a response.
    `accepted` is the type of the JSON of a 202, if there may be one.
    `errors` are those beyond what every route of the port may answer, `headers` the request headers
    that the route reads. `example` is a body, or for a route without a body a query.

    `has_csv`, `has_events`: a good answer may also be CSV, or a stream of events.
    `is_open`: anybody may call it. `only_reads`: viewers may call it, whatever its method.
    """

    method: str
    path: str
    summary: str
    handler: Callable[[C], Awaitable[object]] = _no_handler
    response: Any = None
    query: type[Struct] = NoParameters
    body: type[Struct] | None = None
    status: int = 200
    accepted: Any = None
    errors: tuple[type[GatewayError], ...] = ()
    headers: Mapping[str, str] = {}
    example: Mapping[str, Any] = {}
    has_csv: bool = False
    has_events: bool = False
    is_open: bool = False
    only_reads: bool = False

    @property
    def is_safe(self) -> bool:
        """Whether it changes nothing."""
        return self.only_reads or self.method in ("GET", "HEAD")

    @property
    def waits_for_client(self) -> bool:
        """Whether it reads a body, or sends its answer as it is made."""
        return self.body is not None or self.has_csv or self.method != "GET"

    def __call__(self, method: H) -> H:
        """Mark a method as the handler of this route."""
        method.__dict__["route"] = self
        return method


def routes_of(owner: object, prefix: str = "") -> list[Route[Any]]:
    """The routes of an object's marked methods, with their paths below `prefix`."""
    marked = {
        name: method.__dict__["route"]
        for name, method in vars(type(owner)).items()
        if "route" in getattr(method, "__dict__", ())
    }
    return [
        replace(
            route,
            path=prefix + route.path,
            handler=getattr(owner, name),
            response=route.response or _json_type(getattr(owner, name)),
        )
        for name, route in marked.items()
    ]


def _json_type(handler: Callable[..., Any]) -> Any:
    """The type that a handler returns, or None if that is a response."""
    returned = get_type_hints(handler)["return"]
    is_response = isinstance(returned, type) and issubclass(returned, web.StreamResponse)
    return None if is_response else returned


class Match(Struct, Generic[C], frozen=True):
    """The routes of one path by method, with the values of the parameters in the path.

    `path` is the routes' own, "" where no route has this path.
    """

    path: str
    methods: Mapping[str, Route[C]]
    params: Mapping[str, str]

    def route(self, method: str) -> Route[C]:
        """The route for a method: for HEAD, that of GET. Raises NotFound or MethodNotAllowed."""
        if not self.methods:
            raise NotFound
        found = self.methods.get("GET" if method == "HEAD" else method)
        if found is None:
            raise MethodNotAllowed(", ".join(self.allowed))
        return found

    @property
    def allowed(self) -> list[str]:
        """The methods of the path. The server sends no body in answer to HEAD."""
        return [*self.methods, *(["HEAD"] if "GET" in self.methods else [])]


class Router(Generic[C]):
    """Finds the routes of a path.

    Paths are compared as they came, undecoded: no other spelling of a path reaches a route, so none
    can bypass a proxy's rules in front of the gateway.
    """

    def __init__(self, routes: Iterable[Route[C]]) -> None:
        tables = dict[str, dict[str, Route[C]]]()
        for route in routes:
            tables.setdefault(route.path, {})[route.method] = route
        # Most paths have no parameters: one look-up in a dict finds them.
        self._exact = {path: Match(path, table, {}) for path, table in tables.items()}
        self._patterns = [(_pattern(path), path, tables[path]) for path in tables if "{" in path]
        self._unknown = Match[C]("", {}, {})

    def match(self, path: str) -> Match[C]:
        """The routes of a path; a match without any where the port has none."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        for pattern, template, table in self._patterns:
            if (match := pattern.fullmatch(path)) is not None:
                return Match(template, table, match.groupdict())
        return self._unknown


def _pattern(path: str) -> re.Pattern[str]:
    text = _REST.sub(r"(?P<\1>.*)", re.escape(path))
    return re.compile(_PARAMETER.sub(r"(?P<\1>[A-Za-z0-9._-]+)", text))
