"""The table of routes: paths are compared undecoded."""

import pytest
from aiohttp import web

from gateway.core.errors import MethodNotAllowed, NotFound
from gateway.web.routes import Route, Router


async def handler(call: object) -> web.Response:
    return web.Response()


ROUTER = Router(
    [
        Route("GET", "/things", "List", handler),
        Route("POST", "/things", "Create", handler),
        Route("GET", "/things/{id}", "Show", handler),
        Route("POST", "/things/{id}/stop", "Stop", handler),
        Route("GET", "/files/{rest*}", "Files", handler),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "summary", "params"),
    [
        ("GET", "/things", "List", {}),
        ("POST", "/things", "Create", {}),
        ("GET", "/things/a.b-c_1", "Show", {"id": "a.b-c_1"}),
        ("POST", "/things/a/stop", "Stop", {"id": "a"}),
        ("GET", "/files/a/b%20c", "Files", {"rest": "a/b%20c"}),
        ("GET", "/files/", "Files", {"rest": ""}),
    ],
)
def test_a_route_is_found(method: str, path: str, summary: str, params: dict[str, str]) -> None:
    match = ROUTER.match(path)
    assert (match.route(method).summary, match.params) == (summary, params)


@pytest.mark.parametrize(
    "path", ["", "/", "/things/", "//things", "/Things", "/%74hings", "/things/a%2Fb", "/files"]
)
def test_no_other_spelling_reaches_a_route(path: str) -> None:
    match = ROUTER.match(path)
    assert match.path == ""
    with pytest.raises(NotFound):
        match.route("GET")


def test_another_method_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        ROUTER.match("/things").route("DELETE")
    assert refused.value.headers == {"Allow": "GET, POST, HEAD"}
    with pytest.raises(MethodNotAllowed) as refused:
        ROUTER.match("/things/a/stop").route("HEAD")
    assert refused.value.headers == {"Allow": "POST"}


def test_head_is_served_by_the_route_of_get() -> None:
    assert ROUTER.match("/things").route("HEAD").summary == "List"
