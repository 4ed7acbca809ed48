"""What a healthy client notices of hostile ones: its times alone and during an attack, in turns.

Each attack runs in a process of its own. The healthy client asks for hits at a steady rate.
"""

import asyncio
from statistics import median
from typing import Literal

from msgspec import Struct

from gateway.core import key_format
from gateway.core.model import Limits
from tests.benchmarks.driver import Load, Taken, answer_once, ask_steadily
from tests.benchmarks.growth import DIRECTORY_SECONDS
from tests.benchmarks.processes import running
from tests.benchmarks.stage import Stage, fresh, stage

MOST_SECONDS = 0.005
MOST_SHARE = 0.2
"""A healthy client's p99 may move by so much, whichever is more, while connections are held."""

MOST_NOISE_SECONDS = 0.020
"""It may move by so much because of a noisy team."""

MOST_BYTES = 30_000
"""The memory that a held connection may take. Only the first round shows all of it."""

RATE = 200
CONNECTIONS = 4


class Attack(Struct, frozen=True, kw_only=True):
    """An attack: connections that are held (`count`), or noise (`count` requests a second).

    `key`: of a team with plenty, of a team that may buy nothing, or one that nobody has.
    """

    name: str
    kind: str
    count: int
    key: Literal["plenty", "none", "unknown"] = "plenty"
    holds: bool = False


ATTACKS = (
    Attack(name="slow heads", kind="slow_heads", count=2_000, holds=True),
    Attack(name="slow bodies", kind="slow_bodies", count=500, holds=True),
    Attack(name="unread answers", kind="unread", count=1_000, holds=True),
    Attack(name="noise: hits", kind="hits", count=1_000),
    Attack(name="noise: refused", kind="new_requests", count=1_000, key="none"),
    Attack(name="noise: unknown keys", kind="new_requests", count=1_000, key="unknown"),
)


class Effort(Struct, frozen=True, kw_only=True):
    """Rounds, seconds of each measurement, and the share of the attack's size."""

    rounds: int = 5
    seconds: float = 3.0
    share: float = 1.0


class Outcome(Struct, frozen=True):
    """The healthy client's times alone and attacked, by round; `bytes` for each held connection."""

    attack: Attack
    alone: list[Taken]
    attacked: list[Taken]
    bytes: list[float]

    @property
    def moved(self) -> float:
        """The seconds by which the p99 moved, from the medians of the rounds."""
        return self.p99(self.attacked) - self.p99(self.alone)

    @property
    def target(self) -> float:
        """The most that it may move, in seconds."""
        if not self.attack.holds:
            return MOST_NOISE_SECONDS
        return max(MOST_SECONDS, MOST_SHARE * self.p99(self.alone))

    @staticmethod
    def p99(rounds: list[Taken]) -> float:
        """The median of the rounds' p99, in seconds."""
        return median(taken.p99 for taken in rounds)


async def measure(attack: Attack, effort: Effort) -> Outcome:
    """Measure one attack on a new gateway. Raises RuntimeError if something does not work."""
    async with stage() as on:
        return await measure_on(on, attack, effort)


async def measure_on(on: Stage, attack: Attack, effort: Effort) -> Outcome:
    """Measure one attack on this gateway. Raises RuntimeError if something does not work."""
    keys = {
        "plenty": (await on.keys(1))[0],
        "none": (await on.keys(1, Limits(images_per_day=0)))[0],
        "unknown": key_format.mint(lambda size: b"u" * size)[1],
    }
    load = Load(keys=await on.keys(1), first=fresh(), distinct=1)
    await asyncio.sleep(DIRECTORY_SECONDS)
    await answer_once(on.gateway.port, load)
    outcome = Outcome(attack, [], [], [])
    await _ask(on, load, effort.seconds / 2)
    for _ in range(effort.rounds):
        outcome.alone.append(await _ask(on, load, effort.seconds))
        count = max(1, round(attack.count * effort.share))
        before = on.gateway.resident_bytes
        words = (attack.kind, str(on.gateway.port), str(count), keys[attack.key])
        async with running(on.folder, "tests.benchmarks.attack", *words):
            outcome.attacked.append(await _ask(on, load, effort.seconds))
            if attack.holds:
                outcome.bytes.append((on.gateway.resident_bytes - before) / count)
    return outcome


async def _ask(on: Stage, load: Load, seconds: float) -> Taken:
    return await ask_steadily(on.gateway.port, load, CONNECTIONS, RATE, seconds)
