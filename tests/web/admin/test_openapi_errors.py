"""The errors that the OpenAPI document tells: all of those that the gateway has, and no others."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from gateway.core import errors
from gateway.upstream.outcome import REFUSED
from gateway.web.admin.request import MAX_BODY_BYTES
from gateway.web.openapi import errors as documented
from tests.support.rig import Rig

IMAGES = "/v1/images/generations"

NEVER_TOLD = {errors.NotFound, errors.MethodNotAllowed}
"""Those of paths and methods that the document does not have."""

BASES = {errors.LimitReached, errors.Unavailable, errors.UpstreamError}
"""Those that are never raised themselves."""

BY_ROUTE = {*(errors.AdminOff, errors.Conflicting, errors.NoSuchThing, errors.PreconditionFailed)}
"""Those that a route of the admin API names itself."""


def every_error(of: type[errors.GatewayError] = errors.GatewayError) -> Iterator[Any]:
    for error in of.__subclasses__():
        if error.__module__.startswith("gateway.core."):
            yield error
            yield from every_error(error)


def public() -> documented.Errors:
    told = documented
    return (*told.ANY_ROUTE, *told.WITH_BODY, *told.TEAM, *told.GENERATION)


def test_no_error_is_forgotten() -> None:
    named = {*public(), *documented.ADMIN, *documented.CHANGE, *BY_ROUTE}
    assert named | NEVER_TOLD | BASES == set(every_error())
    assert not named & (NEVER_TOLD | BASES)


async def test_a_request_for_images_tells_the_whole_error_table(rig: Rig) -> None:
    document = (await rig.admin("/openapi.json")).json
    answers = document["paths"][IMAGES]["post"]["responses"]
    own = set(public()) - {errors.UpstreamRefused}
    statuses = {error.status for error in own} | REFUSED
    assert set(answers) == {"200", *map(str, statuses)}
    for error in own:
        if error not in (errors.InvalidRequest, errors.NotPermitted):
            assert error.code in answers[str(error.status)]["description"], error


async def test_what_comes_is_told(rig: Rig) -> None:
    document = (await rig.admin("/openapi.json")).json
    generate, create = (
        document["paths"][path]["post"]["responses"] for path in (IMAGES, "/admin/v1/teams")
    )
    key = await rig.key()
    got = await rig.generate(key, headers={"Cache-Control": "only-if-cached"})
    assert (str(got.status), got.json["error"]["code"] in generate["504"]["description"]) == (
        *("504", True),
    )
    body, kind = BytesIO(b" " * (MAX_BODY_BYTES + 1)), {"Content-Type": "application/json"}
    large = await rig.ask_admin("POST", "teams", data=body, headers=kind)
    assert (large.status, "body_too_large" in create["413"]["description"]) == (413, True)


async def test_what_an_answer_with_images_has_is_told(rig: Rig) -> None:
    schemas = (await rig.admin("/openapi.json")).json["components"]["schemas"]
    answer = (await rig.generate(await rig.key())).json
    assert set(answer) == set(schemas["Images"]["properties"])
    assert set(answer["usage"]) == set(schemas["Tokens"]["properties"])
    assert set(answer["data"][0]) <= set(schemas["Image"]["properties"])


async def test_what_the_configuration_has_is_told(rig: Rig) -> None:
    schemas = (await rig.admin("/openapi.json")).json["components"]["schemas"]
    assert set((await rig.ask_admin("GET", "config")).json) == set(
        schemas["ConfigPage"]["properties"]
    )


async def test_the_headers_that_are_heeded_are_told(rig: Rig) -> None:
    paths = (await rig.admin("/openapi.json")).json["paths"]

    def headers(method: str, path: str) -> set[str]:
        told = paths[path][method]["parameters"]
        return {one["name"] for one in told if one["in"] == "header"}

    assert headers("post", IMAGES) == {"X-Request-Id", "Cache-Control"}
    assert headers("get", "/v1/quota") == {"X-Request-Id"}
    assert headers("put", "/admin/v1/teams/{team}") == {"X-Request-Id", "If-Match"}
