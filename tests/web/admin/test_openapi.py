"""The OpenAPI document: sound in itself, complete, and true to what the gateway answers."""

import re
from typing import Any

import pytest

from tests.support.rig import Rig

METHODS = ("get", "post", "put", "patch", "delete")


def operations(told: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): item[method]
        for path, item in told["paths"].items()
        for method in METHODS
        if method in item
    }


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        inner = set().union(*map(references, value.values())) if value else set()
        return inner | ({value["$ref"]} if "$ref" in value else set())
    return set().union(*map(references, value)) if isinstance(value, list) and value else set()


async def test_the_document_is_sound(rig: Rig) -> None:
    told = (await rig.admin("/openapi.json")).json
    assert told["openapi"].startswith("3.1.")
    names = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    assert references(told) <= names
    found = operations(told)
    ids = [one["operationId"] for one in found.values()]
    assert len(set(ids)) == len(ids)
    for (_, path), one in found.items():
        named = {part["name"] for part in one["parameters"] if part["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        assert set(*one["security"]) <= set(told["components"]["securitySchemes"])
        assert {"400", "401", "503"} < set(one["responses"])
    assert r"\A" not in str(told)


async def test_every_route_is_in_it_and_every_route_in_it_answers(rig: Rig) -> None:
    told = (await rig.admin("/openapi.json")).json
    found = operations(told)
    api = {(route.method.lower(), route.path) for route in rig.gateway.admin_routes()}
    public = {(route.method.lower(), route.path) for route in rig.gateway.public.routes}
    assert set(found) == api | public
    for method, path in found:
        filled = re.sub(r"\{\w+\}", "nothing", path)
        base = rig.url if (method, path) in public else rig.gateway.admin_url
        async with rig.session.request(method, base + filled) as response:
            assert response.status == 401, (method, path)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/docs", "text/html"), ("/docs.js", "text/javascript"), ("/docs.css", "text/css")],
)
async def test_the_page_loads_nothing_from_elsewhere(rig: Rig, path: str, kind: str) -> None:
    got = await rig.admin(path)
    assert got.status == 200
    assert got.headers["Content-Type"].startswith(kind)
    policy = got.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = got.body.decode()
    assert "://" not in text
    assert not re.search(r"<script>|style=|onclick|innerHTML", text)
