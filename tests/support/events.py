"""Streams of events as clients read them."""

import json
from typing import Any

COMMENT = b": keep-alive\n\n"


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The data of the events of a whole stream, without its comments."""
    assert body.endswith(b"\n\n"), "the last event is not whole"
    found = []
    for event in body.decode().removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.split("\n") if not line.startswith(":"))
        if not fields:
            continue
        data = json.loads(fields.pop("data"))
        assert fields == ({"event": data["type"]} if "type" in data else {})
        found.append(data)
    return found
