"""The cases: the same load on the gateway and on the bare server in turns, for several rounds.

Both are measured in one run, so that other work of the machine affects both alike. Each round gives
its own ratio (or difference); the spread of the rounds is shown.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from tests.benchmarks.driver import Answer, Load, Taken, answer_once, ask_together, keep_asking
from tests.benchmarks.processes import Process
from tests.benchmarks.stage import Figures, Stage, bare, fresh, stage

HOLD_SECONDS = 3


class Effort(Struct, frozen=True, kw_only=True):
    """The effort of a run: rounds, seconds for each load, and the share of large counts."""

    rounds: int = 4
    seconds: float = 2.0
    share: float = 1.0

    def count(self, full: int) -> int:
        """A count of the full run, reduced to the share."""
        return max(1, round(full * self.share))


FULL = Effort()
QUICK = Effort(rounds=1, seconds=1.0)


class Case(Struct, frozen=True, kw_only=True):
    """A load for both servers, and the gateway's target compared with the bare one.

    `measure` says how they are compared: CPU by ratio, latencies by difference in seconds.
    `connections` 0 is a crowd: `crowd` requests at once, evenly over `spread` seconds. `extra`
    cases are left out of a quick run.
    """

    name: str
    answer: Answer = "small"
    hit: bool = False
    connections: int = 0
    crowd: int = 0
    distinct: int = 0
    held: str = "0"
    spread: float = 0.0
    most_rounds: int = 99
    measure: Literal["cpu", "p50", "p99"] = "cpu"
    target: float | None = None
    extra: bool = False

    def compare(self, gateway: Figures, plain: Figures) -> float:
        """The ratio, or the seconds added."""
        if self.measure == "cpu":
            return gateway.cpu / (plain.cpu or 1e-9)
        return float(getattr(gateway, self.measure) - getattr(plain, self.measure))


_HELD = partial(
    Case,
    crowd=2_000,
    held=str(HOLD_SECONDS),
    most_rounds=3,
    measure="p99",
    target=0.170,
)

CASES = (
    Case(name="hit small", hit=True, connections=32, target=1.3),
    Case(name="hit 1.5 MB", hit=True, answer="large", connections=8, target=1.2),
    Case(name="miss small", connections=32, target=1.6),
    Case(name="miss 1.5 MB", answer="large", connections=8, target=1.1),
    Case(name="500 identical", crowd=500, distinct=1, held="0.5"),
    _HELD(name="2,000 held at once"),
    _HELD(name="2,000 held, over 2 s", spread=2.0, extra=True),
    Case(
        name="one connection, hit",
        hit=True,
        connections=1,
        measure="p50",
        target=0.000_25,
        extra=True,
    ),
    Case(name="one connection, miss", connections=1, measure="p50", target=0.000_25),
)


class Result(Struct, frozen=True):
    """A case's figures, round by round."""

    case: Case
    gateway: list[Figures]
    plain: list[Figures]

    @property
    def compared(self) -> list[float]:
        """Each round's ratio or difference."""
        return [self.case.compare(*pair) for pair in zip(self.gateway, self.plain, strict=True)]


async def run_case(case: Case, effort: Effort) -> Result:
    """Measure a case with new servers. Raises RuntimeError if one does not work."""
    async with stage() as on, bare(on) as plain:
        load = _load(case, await on.keys(1))
        servers = [
            (on.gateway, load),
            (plain, replace(load, path="/cache" if case.hit else "/proxy")),
        ]
        for server, own in servers:
            await _warm_up(on, case, server, own, effort)
        result = Result(case, [], [])
        for _ in range(min(case.most_rounds, effort.rounds)):
            for (server, own), figures in zip(servers, (result.gateway, result.plain), strict=True):
                figures.append(await on.measure(server, _asking(on, case, own, effort)))
    return result


def _load(case: Case, keys: tuple[str, ...]) -> Load:
    return Load(
        keys=keys,
        answer=case.answer,
        held=case.held,
        first=fresh(),
        distinct=1 if case.hit else case.distinct,
    )


async def _warm_up(on: Stage, case: Case, server: Process, load: Load, effort: Effort) -> None:
    """Fill the cache for a case about hits, and run the load once briefly."""
    if case.hit:
        await answer_once(server.port, load)
    short = Effort(seconds=min(1.0, effort.seconds), share=0.05)
    await _asking(on, case, load, short)(server.port)


def _asking(on: Stage, case: Case, load: Load, effort: Effort) -> Callable[[int], Awaitable[Taken]]:
    """The case's load by port. Its requests are new unless the case is about hits."""
    own = load if case.hit else replace(load, first=fresh())
    if case.connections:
        return lambda port: keep_asking(port, own, case.connections, effort.seconds)
    return lambda port: ask_together(port, own, effort.count(case.crowd), case.spread)
