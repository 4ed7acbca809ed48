"""The control route: reading the counts and switching faults and settings from outside.

GET     settings, counts and faults
POST    {"faults": [...], "latency": ..., "answer": ..., "url_ttl": ..., "picture": ...},
        all optional; the faults replace those there are
DELETE  forget all faults
"""

from typing import Any

from aiohttp import web
from msgspec import DecodeError, Struct, json
from msgspec.structs import asdict

from gateway.upstream.sandbox.errors import error, json_reply
from gateway.upstream.sandbox.faults import Fault
from gateway.upstream.sandbox.state import Answer, Picture, Seconds, State


class _Wishes(Struct, forbid_unknown_fields=True, kw_only=True):
    """What POST may set; None leaves a thing as it is."""

    faults: list[Fault] | None = None
    latency: Seconds | None = None
    answer: Answer | None = None
    url_ttl: Seconds | None = None
    picture: Picture | None = None


_WISHES = json.Decoder(_Wishes)


class Control:
    """Handles requests to the control route."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def show(self, request: web.Request) -> web.Response:
        """GET."""
        return self._shown()

    async def set(self, request: web.Request) -> web.Response:
        """POST."""
        try:
            wishes = asdict(_WISHES.decode(await request.read()))
        except (DecodeError, UnicodeDecodeError) as fault:
            return json_reply(400, error(str(fault), "invalid_request_error", "invalid")).response
        faults = wishes.pop("faults")
        if faults is not None:
            self._state.reset_faults()
            self._state.faults.extend(faults)
        for name, value in wishes.items():
            if value is not None:
                setattr(self._state.settings, name, value)
        return self._shown()

    async def reset(self, request: web.Request) -> web.Response:
        """DELETE."""
        self._state.reset_faults()
        return self._shown()

    def _shown(self) -> web.Response:
        state = self._state
        settings: dict[str, Any] = asdict(state.settings)
        del settings["api_key"]
        faults = [*state.faults, *([state.fault] if state.fault else [])]
        shown = {"settings": settings, "counts": state.counts.numbers(), "faults": faults}
        return json_reply(200, shown).response
