"""Very many mixed requests to one gateway process, and what they leave behind.

Hits, purchases, refusals, clients that hang up, faults of the upstream, revoked keys and reloads.
"""

import asyncio
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.key_format import parse
from gateway.core.model import Limits, Team
from gateway.proxy.context import LEASE_SLACK_SECONDS
from gateway.server.memory import IDLE_SECONDS
from gateway.stores.sqlite import SqliteStore
from gateway.web.access_log import GRAVE
from tests.chaos.judge import Clock, outcome, recorded_of, upstream_events
from tests.chaos.processes import recording_sandbox
from tests.chaos.upstream import read_seen
from tests.simulation.events import Answered, Asked, Drawn, Event, Rules
from tests.simulation.history import violations
from tests.support.directory import new_key, put_teams, set_state
from tests.support.process import GatewayProcess, running_process
from tests.support.raw import RawAnswer, Wire, ask, request_bytes, wire
from tests.support.rig import FLAT, PRICE, Books, Got
from tests.support.steps import until

CONNECTIONS = 32
WARM_UP = 200
"""Requests after which the process has opened what it keeps open."""

TIMEOUT_SECONDS = 3.0
PATIENCE_SECONDS = 60.0
CACHE_BYTES, IMAGES_BYTES = 500_000, 60_000_000
"""Both are full early: from then on, what is known of their content takes no more memory."""

LONG = 100_000
"""A run of so many requests leaves much free memory in the process until that is idle."""

HOT = 40
"""Prompts that are asked for all the time."""

KINDS = {"hit": 80, "purchase": 8, "refusal": 7, "hang-up": 2, "bad": 1, "fresh": 1, "revoked": 1}

FULL = "pictures are not kept"
"""A quick machine fills the folder with files that were just used."""

EXPECTED = {
    *("started", "request", "purchase ended without its client", "configuration read again"),
    *("draining", "stopped"),
    *(FULL, "pictures are kept again"),
}
"""Log lines of a run without trouble. Only grave outcomes and FULL are warnings."""


class LogLine(Struct):
    """What a log line is judged by."""

    level: str
    event: str
    outcome: str | None = None


class Left(Struct, frozen=True):
    """What a process holds while it has nothing to do."""

    tasks: int
    files: int

    def exceeds(self, other: "Left") -> bool:
        """Whether there is more of anything."""
        return self.tasks > other.tasks or self.files > other.files


class LongRun:
    """One run of `requests`. `kinds` counts them by kind and outcome."""

    def __init__(self, requests: int, folder: Path, gateway: GatewayProcess) -> None:
        self.kinds: Counter[tuple[str, str]] = Counter()
        self.history: list[Event] = []
        self._requests = requests
        self._folder = folder
        self._gateway = gateway
        self._clock = Clock()
        self._sent = 0
        self._rng = Random(requests)
        self._revoked: list[str] = []
        self._reloads = 0

    async def prepare(self, store: SqliteStore, pepper: bytes) -> None:
        """Create the teams and keys."""
        self._books, self._pepper = Books(store), pepper
        self.teams = [
            Team(name="team", limits=Limits(concurrent_requests=CONNECTIONS)),
            Team(name="poor", limits=Limits(images_per_day=5)),
        ]
        await put_teams(store.directory, self.teams)
        self._keys = {
            team.name: await new_key(store.directory, pepper, team.name) for team in self.teams
        }

        async def are_known() -> bool:
            return {await self._status(key) for key in self._keys.values()} == {200}

        await until(are_known, PATIENCE_SECONDS)

    async def run(self) -> list[str]:
        """Run it to its end, and return what is wrong."""
        await self._send(WARM_UP)
        start = await self._left()
        await self._send(self._requests // 10)
        await self._rest()
        early = self._resident()
        operator = asyncio.create_task(self._operate())
        await self._send(self._requests - self._sent)
        operator.cancel()
        await asyncio.wait([operator])
        await self._rest()
        late = self._resident()
        found = []
        if not 0.9 * early < late < 1.1 * early:
            found.append(f"resident: {early} bytes after a tenth, {late} at the end")
        if (end := await self._left(start)).exceeds(start):
            found.append(f"{start} at the start, {end} at the end")
        found += await self._judge()
        if code := await self._gateway.terminate():
            found.append(f"the gateway ended with {code}")
        return [*found, *self._log_lines()]

    async def _judge(self) -> list[str]:
        """Compare the ledger with the upstream's count, and judge the history."""
        names = [team.name for team in self.teams]
        holds = {name: len((await self._books.account(name)).holds) for name in names}
        code, out, err = await self._gateway.command("usage", "--format", "json")
        assert code == 0, err
        recorded = recorded_of(msgspec.json.decode(out), holds)
        seen = read_seen(self._folder / "seen")
        self.history += upstream_events(seen, self.history, [], self._clock, TIMEOUT_SECONDS)
        self.history.sort(key=lambda event: event.at)
        drawn = sum(event.images for event in self.history if isinstance(event, Drawn))
        images = sum(each.images for each in recorded.values())
        cost = sum(each.cost for each in recorded.values())
        found = []
        if (images, cost) != (drawn, drawn * PRICE):
            found.append(f"recorded: {images} images for {cost}, the upstream drew {drawn}")
        limits = {("team", team.name): team.limits for team in self.teams}
        lease = TIMEOUT_SECONDS + LEASE_SLACK_SECONDS
        rules = Rules(limits=limits, lease=lease, shared=False)
        return [*found, *violations(self.history, recorded, rules)]

    # -- clients ------------------------------------------------------------------------------

    async def _send(self, number: int) -> None:
        """Send so many requests over connections that are closed at the end."""
        left = iter(range(number))
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._client(left))

    async def _client(self, left: Iterator[int]) -> None:
        kinds, weights = [*KINDS], [*KINDS.values()]
        async with AsyncExitStack() as closing:
            connection: Wire | None = None
            for _ in left:
                self._sent += 1
                call = f"call-{self._sent}"
                kind = self._rng.choices(kinds, weights)[0]
                if kind == "revoked" and not self._revoked:
                    kind = "hit"
                if connection is None:
                    await closing.aclose()
                    connection = await closing.enter_async_context(wire(self._gateway.url))
                if not await self._ask(connection, call, kind):
                    connection = None

    async def _ask(self, connection: Wire, call: str, kind: str) -> bool:
        """Ask; returns whether the connection is still open."""
        team = "poor" if kind == "refusal" else "team"
        key = self._rng.choice(self._revoked) if kind == "revoked" else self._keys[team]
        prompt = f"hot {self._rng.randrange(HOT)}" if kind == "hit" else call
        asked = Asked(
            **self._clock.times(time.time()),
            call=call,
            team=team,
            key=parse(key) or "",
            prompt=prompt,
            images=1,
            gateway="gateway",
            fresh=kind == "fresh",
        )
        self.history.append(asked)
        headers = f"X-Request-Id: {call}\r\n"
        if kind == "fresh":
            headers += "Cache-Control: no-cache\r\n"
        fields = {"prompt": 7 if kind == "bad" else prompt}
        await connection.send(request_bytes(key, headers=headers, body=msgspec.json.encode(fields)))
        if kind == "hang-up":
            await asyncio.sleep(self._rng.uniform(0.0, 0.02))
            self._answered(call, kind, outcome="lost")
            return False
        answer = await connection.answer(seconds=PATIENCE_SECONDS)
        self._answered(call, kind, **_outcome(answer))
        return answer.headers.get("connection") != "close"

    def _answered(self, call: str, kind: str, **fields: Any) -> None:
        self.kinds[kind, fields["outcome"]] += 1
        times = self._clock.times(time.time())
        self.history.append(Answered(**times, call=call, **fields))

    async def _operate(self) -> None:
        """Reload a changed configuration and revoke a key, again and again."""
        while True:
            self._reloads += 1
            limit = f"images_per_month = {100_000_000 + self._reloads}"
            self._gateway.config.write_text(f"{FLAT}\n[limits]\n{limit}\n")
            self._gateway.send(signal.SIGHUP)
            await self._revoke_one()

    async def _revoke_one(self) -> None:
        """Create a key, use it, and revoke it."""
        directory = self._books.store.directory
        key = await new_key(directory, self._pepper, "team")

        async def answers(status: int) -> bool:
            return await self._status(key) == status

        await until(lambda: answers(200), PATIENCE_SECONDS)
        await set_state(directory, parse(key) or "", "revoked")
        await until(lambda: answers(401), PATIENCE_SECONDS)
        self._revoked.append(key)

    async def _status(self, key: str) -> int:
        """The status of a question that costs nothing, on a connection of its own."""
        question = request_bytes(key, method="GET", target="/v1/models", body=b"")
        return (await ask(self._gateway.url, question)).status

    # -- what is left -------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Let the process give free memory back."""
        if self._requests >= LONG:
            await asyncio.sleep(2 * IDLE_SECONDS + 1)

    def _resident(self) -> int:
        pages = Path(f"/proc/{self._gateway.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def _left(self, most: Left | None = None) -> Left:
        """What the process holds once that no longer changes, or once it is at most `most`."""
        last, same = Left(tasks=0, files=0), 0
        for _ in range(60):
            new = Left(tasks=await self._tasks(), files=self._files())
            same = same + 1 if new == last else 0
            last = new
            if same == 3 if most is None else not last.exceeds(most):
                break
            await asyncio.sleep(0.3)
        return last

    async def _tasks(self) -> int:
        known = len(self._gateway.out.splitlines())
        self._gateway.send(signal.SIGUSR1)
        await until(lambda: len(self._gateway.out.splitlines()) > known, PATIENCE_SECONDS)
        return int(self._gateway.out.splitlines()[-1])

    def _files(self) -> int:
        return len(list(Path(f"/proc/{self._gateway.pid}/fd").iterdir()))

    def _log_lines(self) -> list[str]:
        """Return what is wrong with the log."""
        found, read_again = [], 0
        (path,) = self._folder.glob("*.stderr")
        with path.open("rb") as lines:
            for text in lines:
                line = msgspec.json.decode(text, type=LogLine)
                read_again += line.event == "configuration read again"
                is_grave = line.level == "warning" and line.outcome in GRAVE
                is_fine = line.level == "info" or line.event == FULL or is_grave
                if line.event not in EXPECTED or not is_fine:
                    found.append(f"logged: {text.decode()}")
        if not 0 < read_again <= self._reloads:  # two may become one
            found.append(f"{self._reloads} reloads, {read_again} are logged")
        return found[:20]


def _outcome(answer: RawAnswer) -> dict[str, Any]:
    fields = msgspec.json.decode(answer.body)
    return outcome(Got(answer.status, answer.headers, answer.body, fields))


@asynccontextmanager
async def long_run(requests: int, folder: Path) -> AsyncIterator[LongRun]:
    """The processes of a run over one database file, with a cache that is soon full."""
    pepper = secrets.token_hex(32)
    async with AsyncExitStack() as running:
        sandbox = await running.enter_async_context(recording_sandbox(folder, requests, 0.05, 0.01))
        environ = {
            "KEYS_PEPPER": pepper,
            "UPSTREAM_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
            "UPSTREAM_CONNECT_SECONDS": "2",
            "CACHE_MAX_BYTES": str(CACHE_BYTES),
            "IMAGES_MAX_BYTES": str(IMAGES_BYTES),
        }
        gateway = await running.enter_async_context(
            running_process(folder, sandbox.url, FLAT, module="tests.chaos.watched", **environ)
        )
        await gateway.session.close()  # its connections would count as files
        store = await running.enter_async_context(SqliteStore(folder / "gateway.db"))
        run = LongRun(requests, folder, gateway)
        await run.prepare(store, pepper.encode())
        yield run
