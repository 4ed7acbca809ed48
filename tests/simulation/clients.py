"""The simulated clients, which repeat their requests as real ones do.

A client makes one *call*: it sends a request, and sends it again when that failed, or when it has
lost its patience. It stays with its gateway, or turns to another one.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.errors import GatewayError, LimitReached, StoreUnavailable
from gateway.core.model import Caller, Key, Team
from gateway.core.upstream_errors import RepeatedUnknown
from gateway.proxy.context import Accepted, ProxyRequest, ProxyResponse
from gateway.quota.image_response import read_response
from gateway.telemetry.request_record import RequestRecord
from tests.simulation.events import GAVE_UP, REPEATED, UNSEEN, Answered, Asked
from tests.simulation.upstream import picture_of
from tests.simulation.world import Died

if TYPE_CHECKING:
    from tests.simulation.run import Gateway, Run

PATIENT = 300.0

Habit = Literal["once", "sdk", "stubborn", "hasty"]
"""What a client repeats: nothing; what official SDKs repeat, with their mark; each 5xx and 429; or
what takes too long. Only the SDKs heed an error that says that a repeat is useless."""

REPEATS: dict[Habit, int] = {"once": 0, "sdk": 2, "stubborn": 3, "hasty": 2}


class Wanted(Struct, frozen=True, kw_only=True):
    """What a client asks for, the same in all requests of its call. `text` is the text of `key`.

    With `later` it asks for a 202, and then for what became of its request.
    """

    key: Key
    text: str
    team: Team
    prompt: str
    images: int
    control: Sequence[str]
    name: str = ""
    later: bool = False


class Client:
    """A client that makes one call."""

    def __init__(self, run: "Run", call: str, habit: Habit, wanted: Wanted) -> None:
        self._run, self._rng = run, run.rng
        self._call, self._habit, self._wanted = call, habit, wanted
        self._patience = PATIENT
        if habit == "hasty" or self._rng.random() < (0.25 if habit == "once" else 0.5):
            timeout = run.plan.settings.upstream.timeout_seconds
            # Some leave while their purchase is still being reserved.
            longest = self._rng.choice([timeout, timeout, 10.0, 10.0, 0.02])
            self._patience = self._rng.uniform(0.0, longest)

    async def work(self) -> None:
        """Make the call."""
        rng, gateways = self._rng, self._run.gateways
        gateway = rng.choice(gateways)
        for number in range(REPEATS[self._habit] + 1):
            is_last = number == REPEATS[self._habit]
            patience = PATIENT if is_last and rng.random() < 0.5 else self._patience
            failure = await self._send(gateway, number, patience)
            pause = self._pause(failure, number)
            if pause is None:
                break
            former = gateway
            if gateway.process.is_dead or rng.random() < 0.5:
                gateway = rng.choice(gateways)
            # Another gateway learns from the store that a client has left.
            await asyncio.sleep(pause if gateway is former else max(pause, 0.5))
        if isinstance(failure, RepeatedUnknown) and rng.random() < 0.5:
            await self._insist()

    async def _insist(self) -> None:
        """Ask for a new image, as the error of a refused repeat advises. That is another call."""
        wanted = replace(self._wanted, control=("no-cache",), name="")
        await Client(self._run, f"{self._call}-new", "once", wanted).work()

    def _pause(self, failure: Exception | None, number: int) -> float | None:
        """How many seconds to wait before the next request, None if there is none."""
        lost_patience = isinstance(failure, TimeoutError)
        is_cut = isinstance(failure, Died)
        is_error = isinstance(failure, GatewayError) and (failure.status in (429, *range(500, 600)))
        match self._habit:
            case "sdk" if isinstance(failure, GatewayError):
                wait = failure.headers.get("Retry-After")
                if not is_error or not failure.retry:
                    return None
                return float(wait) if wait else self._backoff(number)
            case "sdk" if lost_patience or is_cut:
                return self._backoff(number)
            case "stubborn" if is_error or is_cut:
                return self._rng.uniform(0.0, 2.0)
            case "hasty" if lost_patience or is_cut:
                return self._rng.uniform(0.0, self._rng.choice([1.0, 1.0, 8.0]))
        return None

    def _backoff(self, number: int) -> float:
        return self._rng.uniform(0.5, 1.0) * 2.0**number

    async def _send(self, gateway: "Gateway", number: int, patience: float) -> Exception | None:
        """Send a request, and return its failure."""
        run, wanted = self._run, self._wanted
        call = f"{self._call}.{number}" if number else self._call
        is_marked = self._habit == "sdk" and number > 0
        asked = Asked(
            **run.times(),
            call=call,
            team=wanted.team.name,
            key=wanted.key.id,
            prompt=wanted.prompt,
            images=wanted.images,
            gateway=gateway.process.name,
            fresh=bool(wanted.control) or not wanted.team.cache,
            first=self._call if number else "",
            is_marked=is_marked,
            wants_new=bool(wanted.control),
            name=wanted.name,
        )
        run.history.append(asked)
        task = gateway.process.start(self._serve(gateway, call, is_marked=is_marked))
        failure: Exception | None = None
        answer: dict[str, object]
        try:
            async with asyncio.timeout(patience):
                found = await gateway.process.reply(task)
                body = await self._ask_later(found.id) if isinstance(found, Accepted) else found
            answer = {"outcome": "images", "images": read_response(body).images}
            answer["picture"] = picture_of(body)
        except TimeoutError as lost:
            failure = lost
            is_unseen = run.plan.hides_hangups or task.done()
            answer = {"outcome": "lost", "why": UNSEEN if is_unseen else GAVE_UP}
            if not is_unseen:
                task.cancel()
        except Died as died:
            failure, answer = died, {"outcome": "lost", "why": "died"}
        except (LimitReached, RepeatedUnknown) as refusal:
            is_repeat = isinstance(refusal, RepeatedUnknown)
            failure = refusal
            answer = {"outcome": "refused", "why": REPEATED if is_repeat else str(refusal.code)}
        except GatewayError as error:
            failure, answer = error, {"outcome": "failed", "why": str(error.code)}
        except Exception as defect:  # noqa: BLE001 - it is judged with all else
            answer = {"outcome": "failed", "why": f"defect {defect!r}"}
        run.history.append(Answered(**run.times(), call=call, **answer))  # type: ignore[arg-type]
        return failure

    async def _ask_later(self, id: str) -> bytes:
        """Ask any gateway for an operation until it has ended."""
        while True:
            await asyncio.sleep(2.0)
            gateway = self._rng.choice(self._run.gateways)
            with suppress(Died, StoreUnavailable):
                poll = gateway.process.start(self._poll(gateway, id))
                found = await gateway.process.reply(poll)
                if not isinstance(found, Accepted):
                    return found.body

    async def _poll(self, gateway: "Gateway", id: str) -> ProxyResponse | Accepted:
        world, settings = self._run.world, self._run.plan.settings
        record = RequestRecord(id="poll", started=world.time(), clock=world.time)
        record.caller = await gateway.directory.authenticate((f"Bearer {self._wanted.text}",))
        return await gateway.proxy.named.poll(id, settings, str, record)

    async def _serve(self, gateway: "Gateway", call: str, *, is_marked: bool) -> bytes | Accepted:
        """Serve the request as the gateway's public port does."""
        wanted, world = self._wanted, self._run.world
        body = json.dumps({"prompt": wanted.prompt, "n": wanted.images}).encode()

        async def read_body(caller: Caller) -> bytes:
            await asyncio.sleep(0.001)
            return body

        record = RequestRecord(id=call, started=world.time(), clock=world.time)
        incoming = ProxyRequest(
            (f"Bearer {wanted.text}",),
            wanted.control,
            read_body,
            is_marked,
            idempotency_key=(wanted.name,) if wanted.name else (),
            prefer=("respond-async",) if wanted.later else (),
        )
        answer = await gateway.proxy.generate(incoming, record)
        if isinstance(answer, Accepted):
            return answer
        whole = False
        try:
            await asyncio.sleep(self._rng.choice([0.001, 0.01, 0.5, 3.0]))
            whole = True
        finally:
            if answer.sent is not None:
                answer.sent(whole)
        return answer.body
