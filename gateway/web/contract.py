"""The bodies of the images contract, as the OpenAPI document describes them.

Fields that may be absent are UNSET by default, so that the document does not require them. The
gateway itself uses only the list of models: `gateway.proxy.image_request` reads requests, and the
upstream's answers pass unchanged.
"""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

HEADERS = {
    "Cache-Control": "no-cache: buy a new answer and cache it; no-store: buy one and do not cache "
    "it; max-age=SECONDS: accept no older cached answer; only-if-cached: buy nothing.",
    "Idempotency-Key": "A name of 1 to 255 printable characters. For 24 hours, the team's requests "
    "with this key and body get one answer, which is bought at most once.",
    "Prefer": "respond-async: if the answer is not there, answer 202 with the URL to ask later.",
}
"""The headers that a request for images may have."""


class Generation(Struct, frozen=True, kw_only=True):
    """A request for images. The gateway passes any further field on to the upstream unchanged."""

    prompt: Annotated[str, Meta(min_length=1)]
    model: str | None = None
    size: Annotated[str, Meta(description="auto or WxH, such as 1024x1024")] | None = None
    n: Annotated[int, Meta(ge=1)] | None = None
    quality: str | None = None
    stream: Annotated[bool, Meta(description="true: answer with server-sent events")] | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None


class Image(Struct, frozen=True, kw_only=True):
    """One image, as a URL or as base64."""

    url: str | UnsetType | None = UNSET
    b64_json: str | UnsetType | None = UNSET
    revised_prompt: str | UnsetType | None = UNSET


class Tokens(Struct, frozen=True, kw_only=True):
    """Tokens that the upstream counted."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int] | UnsetType | None = UNSET
    output_tokens_details: dict[str, int] | UnsetType | None = UNSET


class Images(Struct, frozen=True, kw_only=True):
    """The upstream's answer, unchanged. It may have further fields, and lack optional ones."""

    created: int
    data: list[Image]
    size: str | UnsetType | None = UNSET
    quality: str | UnsetType | None = UNSET
    background: str | UnsetType | None = UNSET
    output_format: str | UnsetType | None = UNSET
    usage: Tokens | UnsetType | None = UNSET


class ListedModel(Struct, frozen=True, kw_only=True):
    """A model that the key may use, in the shape of OpenAI's list. An alias has its model's name as
    `root`.
    """

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "image-gateway"
    root: str | UnsetType = UNSET


class ModelList(Struct, frozen=True, kw_only=True):
    """All models that the key may use, and then their aliases."""

    object: str
    data: list[ListedModel]


class Pending(Struct, frozen=True, kw_only=True):
    """An operation that is not done yet: ask again at `url`."""

    id: str
    url: str
    status: str = "running"
