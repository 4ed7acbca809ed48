"""What can go wrong in an upstream, switched on by whoever tests against the sandbox."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

Kind = Literal[
    "status",
    "cut_before_headers",
    "cut_in_body",
    "hang",
    "not_json",
    "no_image",
    "empty_image",
    "fewer",
    "huge",
    "gzip",
    "gzip_bomb",
    "echo_key",
    "set_cookie",
    "slow_body",
]


class Fault(Struct, kw_only=True):
    """One thing that goes wrong, for the next `times` generation requests (None: until reset).

    `status`, `body` and `headers` are for kind "status"; `images` for "fewer"; `bytes` for "huge"
    and "gzip_bomb"; `after` (seconds) for "slow_body".
    """

    kind: Kind
    times: int | None = None
    status: int = 500
    body: str | None = None
    headers: Mapping[str, str] = {}
    images: int = 0
    bytes: int = 0
    after: float = 1.0

    @property
    def draws(self) -> bool:
        """Whether the images are drawn, and so cost money, all the same."""
        if self.kind == "status":
            # What an edge says tells nothing of the origin: that one draws.
            return self.status in (408, 502, 504) or 520 <= self.status <= 527
        return self.kind not in ("echo_key", "no_image", "empty_image", "not_json")


_ERRORS: dict[int, tuple[str, str, str]] = {
    400: (
        "Your request was rejected by the safety system.",
        "image_generation_user_error",
        "moderation_blocked",
    ),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: ("This organisation may not use this model.", "permission_error", "forbidden"),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    422: ("The request cannot be processed.", "invalid_request_error", "unprocessable"),
    429: ("Rate limit reached for images per minute.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error.", "server_error", "server_error"),
    503: ("The engine is overloaded.", "server_error", "overloaded"),
}

_HEADERS: dict[int, dict[str, str]] = {
    302: {"Location": "https://example.invalid/elsewhere"},
    429: {"Retry-After": "7"},
}


def error(message: str, type: str, code: str, param: str | None = None) -> dict[str, Any]:
    """An error body in OpenAI's shape."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def status_error(status: int) -> tuple[dict[str, Any] | str, dict[str, str]]:
    """The body (JSON, or the page of an edge) and headers that usually come with a status."""
    headers = _HEADERS.get(status, {})
    if status in _ERRORS:
        return error(*_ERRORS[status]), headers
    return f"<html><body><h1>{status}</h1></body></html>", headers
