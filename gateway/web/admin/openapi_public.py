"""The public port's routes as the OpenAPI document tells them; `gateway.web.public` serves them."""

from typing import Annotated, NoReturn

from msgspec import Meta, Struct

from gateway.reporting.usage_query import TeamUsageQuery
from gateway.web.admin.routes import Asked, Route
from gateway.web.self_service import OwnQuota, OwnUsage


class Generation(Struct, frozen=True, kw_only=True):
    """A request for images. Any further field is passed on to the upstream as it is."""

    prompt: str
    model: str | None = None
    size: Annotated[str, Meta(description="auto or WxH, such as 1024x1024")] | None = None
    n: Annotated[int, Meta(ge=1)] | None = None
    quality: str | None = None


class Image(Struct, frozen=True, kw_only=True):
    """One image, as a URL or as base64."""

    url: str | None = None
    b64_json: str | None = None
    revised_prompt: str | None = None


class Tokens(Struct, frozen=True, kw_only=True):
    """What the upstream counted."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int] | None = None
    output_tokens_details: dict[str, int] | None = None


class Images(Struct, frozen=True, kw_only=True):
    """The upstream's answer as it came: it may have further fields, and lack those that are not
    required.
    """

    created: int
    data: list[Image]
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    usage: Tokens | None = None


_CACHE_CONTROL = (
    "no-cache: buy a fresh answer and keep it; no-store: and do not keep it; max-age=SECONDS: "
    "nothing kept for longer; only-if-cached: buy nothing."
)


class ListedModel(Struct, frozen=True, kw_only=True):
    """A model that the key may use."""

    id: str
    object: str
    created: int
    owned_by: str


class ModelList(Struct, frozen=True, kw_only=True):
    """All of them."""

    object: str
    data: list[ListedModel]


async def _served_elsewhere(asked: Asked) -> NoReturn:
    """Stands for `gateway.web.public`: these routes are only described here, never called."""
    raise NotImplementedError


def public_routes() -> tuple[Route, ...]:
    """All of them, under both prefixes."""
    return tuple(route for prefix in ("/api/v1", "/v1") for route in _routes(prefix))


def _routes(prefix: str) -> list[Route]:
    return [
        Route(
            method="POST",
            path=f"{prefix}/images/generations",
            summary="Make images, or get kept ones",
            handler=_served_elsewhere,
            body=Generation,
            example={"prompt": "A red apple on a white table", "size": "1024x1024"},
            answer=Images,
            headers={"Cache-Control": _CACHE_CONTROL},
            buys=True,
        ),
        Route(
            method="GET",
            path=f"{prefix}/models",
            summary="The models that this key may use",
            handler=_served_elsewhere,
            answer=ModelList,
        ),
        Route(
            method="GET",
            path=f"{prefix}/quota",
            summary="What is left to the key's team",
            handler=_served_elsewhere,
            answer=OwnQuota,
        ),
        Route(
            method="GET",
            path=f"{prefix}/usage",
            summary="What the key's team used",
            handler=_served_elsewhere,
            query=TeamUsageQuery,
            example={"by": ["day", "model"]},
            answer=OwnUsage,
        ),
    ]
