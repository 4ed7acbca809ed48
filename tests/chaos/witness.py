"""A witness of undisturbed loads on gateway processes whose sandbox runs in this process."""

import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from gateway.core.key_format import parse
from gateway.core.model import Limits
from tests.chaos.judge import Clock, outcome, upstream_events
from tests.chaos.upstream import Seen
from tests.simulation.events import Answered, Asked, Event, Recorded, Rules
from tests.simulation.history import violations
from tests.support.replicas import Replicas
from tests.support.rig import Got
from tests.support.steps import AWAY

TIMEOUT_SECONDS = 300.0
LEASE_SECONDS = TIMEOUT_SECONDS + 5.0


class Witness:
    """Sees the requests of one team. `limits` are as `Rules` has them."""

    def __init__(
        self, replicas: Replicas, team: str, limits: Mapping[tuple[str, str], Limits]
    ) -> None:
        self._replicas = replicas
        self._team = team
        self._limits = limits
        self._history: list[Event] = []
        self._clock = Clock()

    async def patiently(self, key: str, **fields: Any) -> Got:
        """Ask for images as `tests.support.replicas.patiently` does."""
        while (got := await self._ask(key, **fields)).status == 503:
            assert got.error == AWAY
        return got

    async def _ask(self, key: str, **fields: Any) -> Got:
        call, gateway = secrets.token_hex(8), self._replicas.next()
        asked = Asked(
            **self._clock.times(time.time()),
            call=call,
            team=self._team,
            key=parse(key) or "",
            prompt=call,
            images=fields.get("n", 1),
            gateway=str(gateway.pid),
        )
        self._history.append(asked)
        got = await gateway.generate(key, call, headers={"X-Request-Id": call}, **fields)
        answered = Answered(**self._clock.times(time.time()), call=call, **outcome(got))
        self._history.append(answered)
        return got

    async def assert_promises(self) -> None:
        """Check that no promise was broken."""
        usage = await self._replicas.usage(self._team)
        holds = (await self._replicas.account(self._team)).holds
        recorded = Recorded(
            images=usage.images_bought,
            cost=usage.cost,
            unknown_images=usage.images_unknown,
            open_holds=len(holds),
        )
        seen = list(self._seen())
        history = [*self._history]
        history += upstream_events(seen, history, [], self._clock, TIMEOUT_SECONDS)
        rules = Rules(limits=self._limits, lease=LEASE_SECONDS, shared=True)
        history.sort(key=lambda event: event.at)
        assert violations(history, {self._team: recorded}, rules) == []

    def _seen(self) -> Iterator[Seen]:
        start = time.time() - time.monotonic()
        for each in self._replicas.sandbox.counts.requests:
            call = each.headers.get("x-request-id", "")
            seen = Seen(
                at=start + each.at,
                call=call,
                has_ended=False,
                images_drawn=0,
                status=each.status,
                delivered=each.delivered,
            )
            yield seen
            if each.ended_at is not None:
                end = {"at": start + each.ended_at, "images_drawn": each.images_drawn}
                yield replace(seen, has_ended=True, **end)
