"""Leases in Redis, by which gateways elect a buyer, and the channel for the ends of leases.

    lease:NAME      hash until the lease ends: holder; "waited" where another gateway asked for it
    left:HOLDER     the answer that a holder left for the gateways that wait
    leases          the channel; a cluster's nodes forward its messages to each other

Leases use connections of their own, so that a rush for them does not delay the ledger. None of
this is money: no script checks the epoch, and a lease that gets lost is taken again.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from redis.asyncio.client import PubSub

from gateway.config.store_url import StoreUrl
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Bought
from gateway.proxy.leases import Lease, LeaseEvent, Rival
from gateway.stores.port import Observe
from gateway.stores.redis.client import close_client, open_primary
from gateway.stores.redis.link import FAILURES, Link, RedisPart, operation
from gateway.stores.redis.scripts import Argument

QUIET_SECONDS = 1.0
"""After so long without a message the server is asked for a sign of life. After as long without
an answer the subscription is lost."""

LEFT_SECONDS = 10.0
"""How long an answer stays for the gateways that wait: they read it at once."""

LEFT_BYTES = 4 * 1_048_576
"""The longest answer that is left: this Redis needs its memory for budgets."""

_CHANNEL = "{gateway}:leases"

_decode_event = msgspec.msgpack.Decoder(LeaseEvent)
_decode_bought = msgspec.msgpack.Decoder(Bought)


class RedisLeases(RedisPart):
    """The Leases in the Redis at `place`."""

    def __init__(self, place: StoreUrl, *, observe: Observe | None = None) -> None:
        self._place = place
        super().__init__(Link(place, observe))

    @operation("take_lease")
    async def take(self, lease: Lease, seconds: float) -> Rival | None:
        arguments = (lease.holder, _ms(seconds))
        found = await self.link.call_in_any_epoch("lease_take", [_key(lease)], *arguments)
        if not found:
            return None
        holder, left = found
        return Rival(holder.decode(), max(0, left) / 1000)

    @operation("renew_leases")
    async def renew(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        holders = [lease.holder for lease in leases]
        keys = [_key(lease) for lease in leases]
        lost = await self.link.call_in_any_epoch("lease_renew", keys, _ms(seconds), *holders)
        return [leases[place - 1] for place in lost]  # Lua counts from 1

    @operation("end_leases")
    async def end(self, endings: Sequence[tuple[Lease, bytes]]) -> None:
        arguments: list[Argument] = [_CHANNEL]
        for lease, message in endings:
            arguments += (lease.holder, msgspec.msgpack.encode(LeaseEvent(lease, message)))
        keys = [_key(lease) for lease, _ in endings]
        await self.link.call_in_any_epoch("lease_end", keys, *arguments)

    @operation("hand_over")
    async def hand_over(self, lease: Lease, bought: Bought, *, asked: bool = False) -> bool:
        if len(bought.body) > LEFT_BYTES:
            return False
        # Asked first, so that no megabytes are sent for nobody.
        waited = asked or await self.link.call_in_any_epoch("lease_waited", [_key(lease)])
        if not waited:
            return False
        arguments = (msgspec.msgpack.encode(bought), _ms(LEFT_SECONDS))
        await self.link.call_in_any_epoch("lease_leave", [_left(lease)], *arguments)
        return True

    @operation("handed_over")
    async def handed_over(self, lease: Lease) -> Bought | None:
        record = await self.link.call_in_any_epoch("lease_left", [_left(lease)])
        return None if record is None else _decode_bought.decode(record)

    async def listen(self) -> AsyncGenerator[LeaseEvent | None, None]:
        # A client for each subscription: it finds the primary as of now.
        client = open_primary(self._place, connections=2, retries=0)
        try:
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
                await subscription.aclose()  # type: ignore[no-untyped-call]  # redis has no types here
        except FAILURES as failure:
            raise StoreUnavailable from failure
        finally:
            with suppress(*FAILURES):
                await close_client(client)

    async def close(self) -> None:
        await self.link.close()


async def _messages(subscription: PubSub) -> AsyncIterator[dict[str, Any]]:
    """Yield the messages of a subscription. Raises TimeoutError where the server falls silent.

    A dead connection may never report an error, so a quiet server is asked for a sign of life.
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
    """Raise CancelledError where this task was cancelled and redis-py lost the cancellation.

    It sends through `asyncio.wait_for`, which loses a cancellation that comes as it ends (Python
    before 3.12).
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
