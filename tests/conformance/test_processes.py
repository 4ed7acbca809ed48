"""The suite for several processes on the same data, one of which is killed."""

import asyncio
import multiprocessing
import random
from contextlib import suppress
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
        self._acked = 0

    def wait_for(self, count: int) -> int:
        """Wait for `count` images or the program's end; return how many it acknowledged."""
        with suppress(EOFError, ConnectionError):
            while self._acked < count:
                self._acked = self._acks.recv()
        return self._acked


async def _total(make_store: MakeStore) -> tuple[int, int]:
    async with make_store() as store:
        (row,) = await store.usage.report([], None, None)
        return await images(store, "a"), row.requests


def test_processes_that_start_together_lose_nothing_acknowledged(make_store: MakeStore) -> None:
    """Two of them end, and one is killed while it spends."""
    programs = [Program(make_store, name, 40) for name in ("one", "two")]
    killed = Program(make_store, "killed", 1_000_000)
    killed.wait_for(25)
    killed.process.kill()
    acknowledged = killed.wait_for(1_000_000)
    killed.process.join(30)
    for program in programs:
        acknowledged += program.wait_for(40)
        program.process.join(30)
        assert program.process.exitcode == 0
    in_account, in_entries = asyncio.run(_total(make_store))
    assert in_account == in_entries
    assert 105 <= acknowledged <= in_account <= acknowledged + 1
