"""The OpenAPI document: sound, complete, and in agreement with the gateway's answers."""

import json
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any, get_args

from gateway.config.options import descriptions
from gateway.config.values import TeamLimits
from gateway.core import errors, upstream_errors
from gateway.core.admin_errors import AdminOff, Conflicting, NoSuchThing, PreconditionFailed
from gateway.reporting.alerts.message import headers, message
from gateway.reporting.alerts.rules import Event, trial_alert
from gateway.upstream.outcome import PASSED_ON
from gateway.web import openapi_errors as documented
from gateway.web.admin.http import MAX_BODY_BYTES
from gateway.web.admin.teams import TeamBody
from gateway.web.contract import HEADERS
from tests.support.rig import Rig

IMAGES = "/v1/images/generations"
METHODS = ("get", "post", "put", "patch", "delete")

UNDOCUMENTED = {errors.NotFound, errors.MethodNotAllowed}
"""Errors of paths and methods that the document does not have."""

BASES = {errors.LimitReached, errors.Unavailable, upstream_errors.UpstreamError}
"""Base classes, which are never raised themselves."""

BY_ROUTE = {AdminOff, Conflicting, NoSuchThing, PreconditionFailed, errors.UnknownModel}
"""Errors that single routes declare."""

PUBLIC = {
    *(*documented.ANY_ROUTE, *documented.WITH_BODY),
    *(*documented.TEAM, *documented.GENERATION),
}


async def document_of(rig: Rig) -> Any:
    return (await rig.admin("/openapi.json")).json


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): item[method]
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    }


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        inner = set().union(*map(references, value.values())) if value else set()
        return inner | ({value["$ref"]} if "$ref" in value else set())
    return set().union(*map(references, value)) if isinstance(value, list) and value else set()


def every_error(of: type[errors.GatewayError] = errors.GatewayError) -> Iterator[Any]:
    for error in of.__subclasses__():
        if error.__module__.startswith("gateway.core."):
            yield error
            yield from every_error(error)


async def test_the_document_is_sound(rig: Rig) -> None:
    document = await document_of(rig)
    assert document["openapi"].startswith("3.1.")
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= names
    found = operations(document)
    ids = [one["operationId"] for one in found.values()]
    assert len(set(ids)) == len(ids)
    for (_, path), one in found.items():
        named = {part["name"] for part in one["parameters"] if part["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        assert set(*one["security"]) <= set(document["components"]["securitySchemes"])
        assert {"400", "401", "503"} < set(one["responses"])
    assert r"\A" not in str(document)


async def test_the_document_has_every_route_and_every_route_needs_a_token(rig: Rig) -> None:
    found = operations(await document_of(rig))
    api = {(route.method.lower(), route.path) for route in rig.gateway.admin_routes()}
    public = {
        (route.method.lower(), route.path.replace("*}", "}"))
        for route in rig.gateway.public.routes
        if route.response
    }
    assert set(found) == api | public
    for method, path in found:
        filled = re.sub(r"\{\w+\}", "nothing", path)
        base = rig.url if (method, path) in public else rig.gateway.admin_url
        async with rig.session.request(method, base + filled) as response:
            assert response.status == 401, (method, path)


def test_every_error_is_documented() -> None:
    named = {*PUBLIC, *documented.ADMIN, *documented.CHANGE, *BY_ROUTE}
    assert named | UNDOCUMENTED | BASES == set(every_error())
    assert not named & (UNDOCUMENTED | BASES)


async def test_the_limits_of_teams_and_keys_are_described(rig: Rig) -> None:
    schemas = (await document_of(rig))["components"]["schemas"]
    for of in (TeamLimits, TeamBody):
        described = {
            name: field["description"]
            for name, field in schemas[of.__name__]["properties"].items()
            if "description" in field
        }
        assert described == descriptions(of)
    for name, schema in schemas.items():
        assert "Options:" not in schema["description"], name
        assert "\n  " not in schema["description"], name


async def test_a_generation_has_the_whole_table_of_errors(rig: Rig) -> None:
    paths = (await document_of(rig))["paths"]
    generate, create = (paths[path]["post"]["responses"] for path in (IMAGES, "/admin/v1/teams"))
    own = PUBLIC - {*documented.OF_ANOTHER}
    statuses = {error.status for error in own} | PASSED_ON
    assert set(generate) == {"200", "202", *map(str, statuses)}
    assert {*generate["200"]["content"]} == {"application/json", "text/event-stream"}
    assert {*create["201"]["content"]} == {"application/json"}
    for error in own - {errors.InvalidRequest, errors.NotPermitted}:
        assert error.code in generate[str(error.status)]["description"], error
    got = await rig.generate(await rig.key(), headers={"Cache-Control": "only-if-cached"})
    assert got.status == 504
    assert got.json["error"]["code"] in generate["504"]["description"]
    body, kind = BytesIO(b" " * (MAX_BODY_BYTES + 1)), {"Content-Type": "application/json"}
    large = await rig.ask_admin("POST", "teams", data=body, headers=kind)
    assert large.status == 413
    assert "body_too_large" in create["413"]["description"]


async def test_answers_have_the_documented_fields(rig: Rig) -> None:
    schemas = (await document_of(rig))["components"]["schemas"]
    answer = (await rig.generate(await rig.key())).json
    assert set(answer) == set(schemas["Images"]["properties"])
    assert set(answer["usage"]) == set(schemas["Tokens"]["properties"])
    assert set(answer["data"][0]) <= set(schemas["Image"]["properties"])
    # An upstream sends some of these and not others.
    assert schemas["Image"].get("required", []) == []
    assert set(schemas["Images"]["required"]) == {"created", "data"} <= answer.keys()
    config = (await rig.ask_admin("GET", "config")).json
    assert set(config) == set(schemas["ConfigPage"]["properties"])


async def test_routes_document_the_headers_that_they_read(rig: Rig) -> None:
    found = operations(await document_of(rig))
    for operation, names in {
        ("post", IMAGES): {"X-Request-Id", *HEADERS},
        ("get", "/v1/quota"): {"X-Request-Id"},
        ("put", "/admin/v1/teams/{team}"): {"X-Request-Id", "If-Match"},
    }.items():
        parameters = found[operation]["parameters"]
        assert {one["name"] for one in parameters if one["in"] == "header"} == names


async def test_webhook_messages_are_sent_as_documented(rig: Rig) -> None:
    document = await document_of(rig)
    sent = json.loads(message("json", trial_alert("ops", 0.0), "msg_1"))
    assert set(document["webhooks"]) == set(get_args(Event))
    body = document["components"]["schemas"]["Body"]
    assert set(sent) == set(body["properties"]) == set(body["required"])
    for event, item in document["webhooks"].items():
        schema = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["allOf"] == [
            {"$ref": "#/components/schemas/Body"},
            {"properties": {"event": {"const": event}}},
        ]
        named = {part["name"] for part in item["post"]["parameters"]}
        assert named == {name for name in headers("", b"", 0, b"") if name.startswith("webhook-")}
