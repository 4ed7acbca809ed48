"""Leases in Redis, by which gateways elect a buyer, and the channel on which they tell its news.

    lease:NAME      hash, gone when the lease is over: holder; "waited" where another one asked
    left:HOLDER     the answer that a holder left to those who wait
    leases          the channel; in a cluster each node passes on to the others what is published

Connections are its own, so that a rush for leases does not hold up the ledger. Nothing here is
money: no script looks at the epoch, and what gets lost is taken again.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from redis.asyncio.client import PubSub

from gateway.config.store_url import StoreUrl
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Bought
from gateway.proxy.leases import Lease, LeaseEvent, Rival
from gateway.stores.redis.client import close_client, open_client
from gateway.stores.redis.link import FAILURES, Link, Observe
from gateway.stores.redis.scripts import Argument, Script

CONNECTIONS = 8

PATIENCE_SECONDS = 2.0
"""What an operation may take, the wait for a connection included."""

QUIET_SECONDS = 1.0
"""After so long without a word, and again after as long without an answer, the subscription is
taken for lost."""

LEFT_SECONDS = 10.0
"""How long an answer is left for those who wait: they have been told."""

LEFT_BYTES = 4 * 1_048_576
"""The longest answer that is left: it is budgets that this Redis needs its memory for."""

_CHANNEL = "{gateway}:leases"

_ALWAYS = "#!lua flags=allow-oom\n"
"""Of scripts that write next to nothing: news are told though memory is used up."""

_TAKE = Script(_ALWAYS, "lease_take")
_RENEW = Script(_ALWAYS, "lease_renew")
_END = Script(_ALWAYS, "lease_end")
_WAITED = Script(_ALWAYS, "lease_waited")
_LEAVE = Script("#!lua\n", "lease_leave")
_LEFT = Script(_ALWAYS, "lease_left")

_encode_event = msgspec.msgpack.Encoder()
_decode_event = msgspec.msgpack.Decoder(LeaseEvent)
_encode_bought = msgspec.msgpack.Encoder()
_decode_bought = msgspec.msgpack.Decoder(Bought)


class RedisLeases:
    """Leases in the Redis at `place`.

    `observe` is told of every operation that ended, as by `gateway.stores.redis.store`.
    """

    def __init__(self, place: StoreUrl, *, observe: Observe | None = None) -> None:
        self._place = place
        self._observe = observe or (lambda operation, seconds, there: None)
        self._link = Link(
            place,
            connections=CONNECTIONS,
            patience=PATIENCE_SECONDS,
            monotonic=time.monotonic,
            observe=observe,
        )

    async def take(self, lease: Lease, seconds: float) -> Rival | None:
        """Take a lease for so many seconds; who has it, where somebody does."""
        found = await self._call("take_lease", _TAKE, [_key(lease)], lease.holder, _ms(seconds))
        if not found:
            return None
        holder, left = found
        return Rival(holder.decode(), max(0, left) / 1000)

    async def renew(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        """Make these live for so many seconds from now; those that are another's by now."""
        holders = [lease.holder for lease in leases]
        keys = [_key(lease) for lease in leases]
        lost = await self._call("renew_leases", _RENEW, keys, _ms(seconds), *holders)
        return [leases[place - 1] for place in lost]

    async def end(self, endings: Sequence[tuple[Lease, bytes]]) -> None:
        """End each lease, unless it is another's by now, and tell the news to all gateways."""
        arguments: list[Argument] = [_CHANNEL]
        for lease, message in endings:
            arguments += (lease.holder, _encode_event.encode(LeaseEvent(lease, message)))
        keys = [_key(lease) for lease, _ in endings]
        await self._call("end_leases", _END, keys, *arguments)

    async def hand_over(self, lease: Lease, bought: Bought) -> bool:
        """Leave an answer to those who wait; False where nobody does, or it is too large."""
        if len(bought.body) > LEFT_BYTES:
            return False
        if not await self._call("hand_over", _WAITED, [_key(lease)]):
            return False
        record = _encode_bought.encode(bought)
        await self._call("hand_over", _LEAVE, [_left(lease)], record, _ms(LEFT_SECONDS))
        return True

    async def handed_over(self, lease: Lease) -> Bought | None:
        """The answer that was left, for some seconds after."""
        record = await self._call("handed_over", _LEFT, [_left(lease)])
        return None if record is None else _decode_bought.decode(record)

    async def listen(self) -> AsyncGenerator[LeaseEvent | None, None]:
        """All that is told from now on; None once it is certain that nothing is missed any more.

        Raises StoreUnavailable when the subscription is lost. Each one has a client of its own:
        it finds the master, or the cluster's nodes, as they are by then.
        """
        client = open_client(self._place, connections=2, retries=0)
        try:
            await client.initialize()
            subscription = client.pubsub()
            try:
                await subscription.subscribe(_CHANNEL)
                async for message in _messages(subscription):
                    if message["type"] == "subscribe":
                        yield None
                    elif message["type"] == "message":
                        with suppress(msgspec.DecodeError, UnicodeDecodeError):  # not ours
                            yield _decode_event.decode(message["data"])
            finally:
                await subscription.aclose()  # type: ignore[no-untyped-call]
        except FAILURES as failure:
            raise StoreUnavailable from failure
        finally:
            with suppress(*FAILURES):
                await close_client(client)

    async def close(self) -> None:
        """Let go. Later calls raise StoreUnavailable."""
        await self._link.close()

    async def _call(
        self, operation: str, script: Script, keys: Sequence[str], *arguments: Argument
    ) -> Any:
        started, there = time.monotonic(), True
        try:
            return await self._link.raw(script, keys, arguments)
        except FAILURES as failure:
            there = False
            raise StoreUnavailable from failure
        finally:
            self._observe(operation, time.monotonic() - started, there)


async def _messages(subscription: PubSub) -> AsyncIterator[dict[str, Any]]:
    """What the server says. Raises TimeoutError where it falls silent.

    A connection that has died without a word would never end by itself: where it is quiet, the
    server is asked whether it is there.
    """
    asked = False
    while True:
        message = await subscription.get_message(timeout=QUIET_SECONDS)
        _end_if_cancelled()
        if message is not None:
            asked = False
            yield message
        elif asked:
            raise TimeoutError
        else:
            await subscription.ping()
            asked = True


def _end_if_cancelled() -> None:
    """Raise CancelledError where this task was cancelled and redis-py lost that: it sends through
    `asyncio.wait_for`, which forgets a cancellation that comes as it ends (Python before 3.12).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _key(lease: Lease) -> str:
    return f"{{gateway}}:lease:{lease.name}"


def _left(lease: Lease) -> str:
    return f"{{gateway}}:left:{lease.holder}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
