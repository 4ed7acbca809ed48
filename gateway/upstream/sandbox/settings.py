"""How a sandbox answers when nothing is wrong."""

from typing import Literal

from msgspec import Struct

Answer = Literal["b64_json", "url", "both"]


class SandboxSettings(Struct, kw_only=True):
    """`latency` and `url_ttl` in seconds. `api_key` None takes any key, as long as there is one.

    `picture` "dot" delivers one constant tiny picture: for load tests, where nothing else differs.
    """

    api_key: str | None = None
    answer: Answer = "b64_json"
    latency: float = 0.0
    url_ttl: float = 3_600.0
    picture: Literal["drawn", "dot"] = "drawn"
