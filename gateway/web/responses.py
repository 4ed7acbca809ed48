"""Answers of the public port: the error body, and the headers of every answer."""

from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct, json

from gateway.core.errors import GatewayError
from gateway.core.faults import InvalidFields
from gateway.core.listing import listing
from gateway.core.money import format_usd
from gateway.core.upstream_errors import UpstreamRefused
from gateway.proxy.context import ProxyResponse
from gateway.telemetry.request_record import RequestRecord
from gateway.web.contract import Pending
from gateway.web.rate_limit_headers import rate_limit_headers, server_timing

SERVER = {"Server": "image-gateway"}
POLL_SECONDS = 2
"""How long a client should wait before it asks again."""

_BASE = {"Content-Type": "application/json", **SERVER}

_STREAM = {
    "Content-Type": "text/event-stream",
    # Proxies on the way must pass each event on as it comes, unchanged.
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
_OF_THE_END = ("Server-Timing", "x-gateway-cost-usd")


def error_body(error: GatewayError) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`, or the upstream's own error unchanged.

    If several fields are wrong, `faults` has the path and the message of each.
    """
    if isinstance(error, UpstreamRefused):
        return error.body
    fields = {name: getattr(error, name) for name in ("message", "type", "param", "code")}
    if isinstance(error, InvalidFields):
        fields["faults"] = [
            {"path": fault.path, "message": fault.message} for fault in error.faults
        ]
    return json.encode({"error": fields})


def error_response(error: GatewayError, record: RequestRecord | None = None) -> web.Response:
    """Answer a request that failed. There is no record of a request that could not be read."""
    own = error.headers
    wait = float(own.get("Retry-After", 0))
    headers = {**_BASE, **(_record_headers(record, wait) if record else {}), **own}
    return web.Response(status=error.status, body=error_body(error), headers=headers)


def raw_error(error: GatewayError, headers: Mapping[str, str]) -> bytes:
    """The same as bytes, for a connection without a request. The connection must be closed."""
    body = error_body(error)
    own = {**_BASE, **headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in own.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def json_response(value: object, record: RequestRecord) -> web.Response:
    """Answer 200 with JSON. A Struct appears in its public form, and bytes are JSON already."""
    headers = {**_BASE, **_record_headers(record)}
    if not isinstance(value, bytes):
        value = json.encode(listing(value) if isinstance(value, Struct) else value)
    return web.Response(body=value, headers=headers)


def empty_response(headers: Mapping[str, str], record: RequestRecord) -> web.Response:
    """Answer 204 with these further headers."""
    return web.Response(status=204, headers={**SERVER, **_record_headers(record), **headers})


async def json_lists(pieces: AsyncIterator[Sequence[object]]) -> AsyncIterator[bytes]:
    """Encode lists that come one after another as one JSON list, a piece for each."""
    before = b"["
    async for items in pieces:
        yield before + json.encode(items)[1:-1]
        before = b","
    yield b"[]" if before == b"[" else b"]"


def image_response(
    answer: ProxyResponse, record: RequestRecord, events: bytes | None = None
) -> web.Response:
    """Answer 200 with images: the bytes of the purchase, unchanged, or `events` of a stream."""
    headers = {**_BASE, **_record_headers(record), "Cache-Status": answer.cache_status}
    headers["x-gateway-saved-usd"] = format_usd(record.saved)
    if answer.age is not None:
        headers["Age"] = str(answer.age)
    if events is None:
        return web.Response(body=answer.body, headers=headers)
    return web.Response(body=events, headers={**headers, **_STREAM})


def accepted_response(id: str, record: RequestRecord, *, is_poll: bool = False) -> web.Response:
    """Answer 202: the client asks again later, for the operation with this id."""
    url = f"/v1/images/generations/{id}"
    headers = {**_BASE, **_record_headers(record), "Retry-After": str(POLL_SECONDS)}
    headers["Location"] = url
    if not is_poll:
        headers["Preference-Applied"] = "respond-async"
    return web.Response(status=202, body=json.encode(Pending(id=id, url=url)), headers=headers)


def stream_head(record: RequestRecord) -> dict[str, str]:
    """The headers of a stream that begins before its answer: they say nothing about that."""
    headers = {**SERVER, **_record_headers(record), **_STREAM}
    return {name: headers[name] for name in headers if name not in _OF_THE_END}


def _record_headers(record: RequestRecord, retry_after: float = 0.0) -> dict[str, str]:
    headers = {"X-Request-Id": record.id}
    if record.caller is not None:  # strangers must not learn anything from durations
        headers["Server-Timing"] = server_timing(_phases(record))
    if record.rate_limits is not None:
        headers.update(rate_limit_headers(record.rate_limits, retry_after))
    if record.request is not None:
        headers["x-gateway-cost-usd"] = format_usd(record.cost)
    return headers


def _phases(record: RequestRecord) -> dict[str, float]:
    upstream = {} if record.upstream is None else {"upstream": record.upstream}
    return {**record.phases, **upstream, "total": record.clock() - record.started}
