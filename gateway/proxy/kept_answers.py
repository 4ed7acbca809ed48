"""The answers of operations under a name: where they are kept, and how they are found again.

The answer of a purchase under a name is in the cache once more, under a name that no other request
has. An answer that came from the cache, or from another purchase, is only referred to: who asks for
free must not fill the cache. Gateways without a shared cache ask each other for these answers.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from zlib import crc32

from aiocache.base import BaseCache
from msgspec.structs import replace

from gateway.core.errors import ResultExpired, StoreUnavailable
from gateway.core.model import Bought
from gateway.proxy.context import Context
from gateway.proxy.election import Election
from gateway.proxy.leases import Lease, Leases
from gateway.proxy.operation_name import OperationName
from gateway.proxy.operations import (
    AGAIN_SECONDS,
    GONE_SECONDS,
    KEPT_BYTES,
    LOOK_SECONDS,
    MOST_KEPT,
    OpenOperations,
)
from gateway.proxy.pictures import lifetime
from gateway.quota.image_response import ImageResponse
from gateway.quota.ledger import Ledger
from gateway.quota.named import Answered, CachedAs
from gateway.quota.operations import GONE, NAMED_SECONDS, Operation

SAME_SECONDS = 2.0
"""How much the times of one answer may differ: replicas read them by clocks that differ."""

MARKED_BYTES = 16_384

MOST_HANDED = 16
"""Answers that are handed over to other gateways at the same time."""


class KeptAnswers:
    """Keeps and finds the answers of operations under a name. `wall` returns the time."""

    def __init__(
        self,
        cache: BaseCache,
        ledger: Ledger,
        election: Election,
        operations: OpenOperations,
        wall: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._ledger = ledger
        self._election = election
        self._operations = operations
        self._wall = wall
        self._handed = set[str]()
        self._latest = dict[str, float]()  # when each was noted, in that order
        election.on_wanted = self._wanted

    # -- keeping --------------------------------------------------------------------------------

    async def keep(self, context: Context, bought: Bought, answered: ImageResponse) -> None:
        """Keep the answer of a purchase under its name, if it has one."""
        if context.name is not None:
            seconds = lifetime(bought, answered, NAMED_SECONDS, context, self._wall())
            await self._copy(context.name, bought, seconds)

    async def refer(self, context: Context, name: OperationName, bought: Bought) -> None:
        """Note which answer a request got that was not bought for it."""
        found: Bought | None = await self._cache.get(context.fingerprint)
        if found is not None and found.at == bought.at:
            self._note(name, context.fingerprint, bought)
        else:  # it was handed over, or the cache does not take it
            await self._copy(name, bought, self._life(bought))

    async def _copy(self, name: OperationName, bought: Bought, seconds: float) -> None:
        answer = GONE
        if seconds > 0:
            copy = replace(bought, kept=True, about=None)
            if await self._cache.set(name.answer, copy, ttl=seconds):
                answer = name.answer
        self._note(name, answer, bought)

    def _life(self, bought: Bought) -> float:
        """How long an answer can be used for certain, if only that is known of its pictures."""
        ends = [picture.until for picture in bought.pictures if picture.has_url]
        return min([NAMED_SECONDS, *(end - self._wall() for end in ends)])

    def _note(self, name: OperationName, answer: str, bought: Bought) -> None:
        if answer != GONE:
            self._latest.pop(answer, None)
            self._latest[answer] = self._wall()
            if len(self._latest) > MOST_KEPT:
                del self._latest[next(iter(self._latest))]
        cached = CachedAs(answer, mark_of(bought.body), bought.at, name.scope)
        self._ledger.note(Answered(record=name.record, id=name.operation, cached=cached))

    # -- finding --------------------------------------------------------------------------------

    async def find(self, held: Operation, name: OperationName) -> Bought:
        """Return the answer of an operation, from wherever it is kept. Raises ResultExpired."""
        bought = None
        if held.answer != GONE and held.scope == name.scope:  # else the team's answers were purged
            bought = await self._found(held, name)
        if bought is None:
            raise ResultExpired
        return bought

    async def _found(self, held: Operation, name: OperationName) -> Bought | None:
        found: Bought | None = await self._cache.get(held.answer)
        if found is not None and _is_same(found, held):
            return found
        leases = self._election.leases
        if leases is None or self._election.cache_is_shared():
            return None
        with suppress(StoreUnavailable):
            return await self._from_afar(leases, held, name)
        return None

    async def _from_afar(
        self, leases: Leases, held: Operation, name: OperationName
    ) -> Bought | None:
        """Ask the other gateways for an answer. Raises StoreUnavailable."""
        now = asyncio.get_running_loop().time
        until = now() + GONE_SECONDS
        while now() < until:
            found = await leases.handed_over(Lease(held.answer, held.answer))
            if found is not None and _is_same(found, held):
                # One that is referred to is in the cache under a name of others.
                if held.answer == name.answer and (life := self._life(found)) > 0:
                    await self._cache.set(held.answer, replace(found, kept=True), ttl=life)
                return found
            await self._election.ask_for(held.answer)
            await asyncio.sleep(LOOK_SECONDS)
        return None

    async def leave_latest(self) -> None:
        """Leave the answers that were noted just now to the other gateways, the latest first.

        They are gone with this gateway, and those that wait have not asked for them yet. All have
        at most KEPT_BYTES.
        """
        leases, since, room = self._election.leases, self._wall() - GONE_SECONDS, KEPT_BYTES
        if leases is None or self._election.cache_is_shared():
            return
        with suppress(StoreUnavailable):
            for answer in [name for name, at in self._latest.items() if at > since][::-1]:
                found = await self._cache.look(answer)
                if found is None or len(found.body) > room:
                    continue
                if await leases.hand_over(Lease(answer, answer), found, asked=True):
                    room -= len(found.body)

    def _wanted(self, answer: str) -> None:
        """Another gateway asks for an answer."""
        if answer not in self._handed and len(self._handed) < MOST_HANDED:
            self._handed.add(answer)
            self._operations.background.spawn(self._hand_over(answer))

    async def _hand_over(self, answer: str) -> None:
        try:
            leases, found = self._election.leases, await self._cache.look(answer)
            if leases is None or found is None:
                return
            with suppress(StoreUnavailable):
                await leases.hand_over(Lease(answer, answer), found, asked=True)
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            self._handed.discard(answer)


def mark_of(body: bytes) -> int:
    """Return what tells the body of an answer from others: its length, and a sum of some bytes.

    The beginning of a picture's base64 may be that of many others, and so may its end.
    """
    middle = len(body) // 2
    parts = (body[:MARKED_BYTES], body[middle : middle + MARKED_BYTES], body[-MARKED_BYTES:])
    return len(body) << 32 | crc32(b"".join(parts))


def _is_same(found: Bought, held: Operation) -> bool:
    """Whether this is still the answer that the operation got: the cache may have another one."""
    return mark_of(found.body) == held.mark and abs(found.at - held.dated) < SAME_SECONDS
