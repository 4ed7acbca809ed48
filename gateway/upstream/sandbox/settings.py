"""How a sandbox answers when nothing is wrong."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Answer = Literal["b64_json", "url", "both"]
Picture = Literal["drawn", "dot"]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class SandboxSettings(Struct, kw_only=True):
    """`latency` and `url_ttl` in seconds. `api_key` None takes any key, as long as there is one.

    `picture` "dot" delivers one constant tiny picture: for load tests, where nothing else differs.
    All of it may be changed while the sandbox runs; calls under way keep what they began with.
    """

    api_key: str | None = None
    answer: Answer = "b64_json"
    latency: Seconds = 0.0
    url_ttl: Seconds = 3_600.0
    picture: Picture = "drawn"
