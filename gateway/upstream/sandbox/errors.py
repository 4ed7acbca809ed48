"""The upstream's errors: their bodies, and what usually comes with a status."""

from collections.abc import Mapping

from msgspec import json

from gateway.upstream.sandbox.replies import Reply

_OPENAI: Mapping[int, tuple[str, str, str | None]] = {
    400: (
        "Your request was rejected by the safety system.",
        "image_generation_user_error",
        "moderation_blocked",
    ),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: ("This organization may not use this model.", "permission_error", "forbidden"),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    418: ("I am a teapot.", "invalid_request_error", None),
    422: ("The request cannot be processed.", "invalid_request_error", "unprocessable"),
    429: ("Rate limit reached for images per minute.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error.", "server_error", "server_error"),
    503: ("The engine is overloaded.", "server_error", "overloaded"),
}

_HEADERS: Mapping[int, Mapping[str, str]] = {
    # Relative, so that whoever follows it comes back here and is counted.
    **{status: {"Location": "/api/v1/images/generations"} for status in (301, 302, 307, 308)},
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "7"},
}


class Refused(Exception):
    """The request is answered with this error; it costs nothing. Its text holds no values."""

    def __init__(
        self, message: str, param: str | None, code: str | None, *, status: int = 400
    ) -> None:
        super().__init__(message)
        self.reply = json_reply(status, error(message, "invalid_request_error", code, param))


def error(
    message: str, type: str, code: str | None, param: str | None = None
) -> dict[str, dict[str, str | None]]:
    """An error body in OpenAI's shape."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def json_reply(status: int, value: object) -> Reply:
    """A reply with this value as its JSON."""
    return Reply(json.encode(value), status=status)


def status_reply(status: int, body: str | None, headers: Mapping[str, str]) -> Reply:
    """What comes with a status: `body`, where given, else OpenAI's error, else an edge's page.

    `headers` come on top of the usual ones; an empty value takes the usual one away.
    """
    reply = _usual_reply(status) if body is None else _text_reply(status, body)
    return reply.with_headers(_HEADERS.get(status, {})).with_headers(headers)


def _usual_reply(status: int) -> Reply:
    if status in _OPENAI:
        return json_reply(status, error(*_OPENAI[status]))
    return html_reply(status, str(status))


def html_reply(status: int, title: str) -> Reply:
    """A page, such as an edge shows."""
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return _text_reply(status, page)


def _text_reply(status: int, body: str) -> Reply:
    kind = "text/html; charset=utf-8" if body.startswith("<") else "application/json"
    return Reply(body.encode(), status=status, headers={"Content-Type": kind})
