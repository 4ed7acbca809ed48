"""An answer as the events of a stream, in the shape that OpenAI's clients read.

Each picture is one `image_generation.completed` event, which has all fields of the answer and of
the picture. A field that the clients need and the answer lacks has the value of the request.

`usage` counts the tokens of all pictures together. So the last event has it, and those before it
count none: the sum over a stream is right.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw, json

from gateway.core.model import ImageRequest
from gateway.images.forms import OpenedAnswer

PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"


def completed_events(body: bytes, request: ImageRequest, now: float) -> bytes:
    """Return the events of the answer to this request. Run it off the event loop if it is large.

    `now` is the wall clock. Raises msgspec.DecodeError if the answer cannot be read.
    """
    opened = OpenedAnswer(body)
    fields = _filled(opened.fields)
    del fields["data"]
    created, usage = fields.pop("created", int(now)), fields.pop("usage", None)
    items = list(opened.with_pictures())
    nothing = None if usage is None or len(items) == 1 else _zeroed(json.decode(usage))
    events = [
        {
            **_wished(request),
            **fields,
            **_filled(item),
            "type": COMPLETED,
            "created_at": created,
            "usage": usage if place == len(items) else nothing,
        }
        for place, item in enumerate(items, start=1)
    ]
    text = b"".join(
        _framed(COMPLETED, json.format(json.encode(event), indent=-1)) for event in events
    )
    # A stream takes a carriage return for the end of a line. JSON has it only as an escape, but
    # nobody has looked at the bytes of the pictures.
    return opened.restored(text).replace(b"\r", b"")


def partial_event(data: bytes) -> bytes:
    """Return the event of a partial image, whose JSON is on one line."""
    return _framed(PARTIAL, data)


def error_event(body: bytes) -> bytes:
    """Return the event of an error whose JSON, on one line, is `body`: clients raise it."""
    return b"data: %b\n\n" % body


def _framed(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _wished(request: ImageRequest) -> dict[str, str]:
    """The fields that clients read in each event, as the request has them."""
    wished = {"size": request.size, "quality": "auto", "background": "auto", "output_format": "png"}
    given = {name: request.body.get(name) for name in wished}
    return wished | {name: value for name, value in given.items() if isinstance(value, str)}


def _filled(fields: Mapping[str, Raw]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if bytes(value) != b"null"}


def _zeroed(usage: Any) -> Any:
    """Return a usage with zero in the place of each number."""
    if isinstance(usage, dict):
        return {name: _zeroed(value) for name, value in usage.items()}
    return 0 if isinstance(usage, int | float) else usage
