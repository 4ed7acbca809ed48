"""The suite for several processes on the same data, one of which is killed."""

import asyncio
import multiprocessing
import random
from multiprocessing.connection import Connection

from tests.conformance.store import MakeStore, images, spend

SPAWN = multiprocessing.get_context("spawn")


def spend_in_process(make_store: MakeStore, name: str, times: int, acks: Connection) -> None:
    """A program that spends `times` images, one after the other, and acknowledges each."""

    async def work() -> None:
        async with make_store() as store:
            acks.send(0)
            for turn in range(times):
                await spend(store, "a", f"{name}-{turn}", random.Random(name))
                acks.send(turn + 1)

    asyncio.run(work())


class Program:
    """A running `spend_in_process`."""

    def __init__(self, make_store: MakeStore, name: str, times: int) -> None:
        self._acks, theirs = SPAWN.Pipe(duplex=False)
        self.process = SPAWN.Process(
            target=spend_in_process, args=(make_store, name, times, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def wait_for(self, count: int) -> int:
        """Wait for `count` images or the program's end; return how many it acknowledged."""
        acked = 0
        while acked < count:
            try:
                acked = self._acks.recv()
            except (EOFError, ConnectionError):
                break
        return acked

    def end(self, *, kill: bool = False) -> None:
        """Wait for its end, or kill it."""
        if kill:
            self.process.kill()
        self.process.join(30)
        assert kill or self.process.exitcode == 0


async def _total(make_store: MakeStore) -> tuple[int, int]:
    async with make_store() as store:
        (row,) = await store.usage.report([], None, None)
        return await images(store, "a"), row.requests


class ProcessConformance:
    def test_processes_that_start_together_lose_nothing(self, make_store: MakeStore) -> None:
        programs = [Program(make_store, name, 40) for name in ("one", "two", "three")]
        assert [program.wait_for(40) for program in programs] == [40, 40, 40]
        for program in programs:
            program.end()
        assert asyncio.run(_total(make_store)) == (120, 120)

    def test_nothing_acknowledged_is_lost_with_a_killed_process(
        self, make_store: MakeStore
    ) -> None:
        acknowledged = 0
        for life in ("first", "second", "third"):
            program = Program(make_store, life, 1_000_000)
            acked = program.wait_for(25)
            program.process.kill()
            acked = max(acked, program.wait_for(1_000_000))
            program.end(kill=True)
            acknowledged += acked
        in_account, in_entries = asyncio.run(_total(make_store))
        assert in_account == in_entries
        assert acknowledged <= in_account <= acknowledged + 3
