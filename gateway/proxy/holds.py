"""The purchase path's way to the ledger: holds of quota, and their ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import StoreUnavailable
from gateway.proxy.context import Context
from gateway.proxy.operations import repeated_error
from gateway.proxy.past_failures import encode_failure
from gateway.quota.ledger import Ledger, store_patience
from gateway.quota.operations import Operation, Repeat
from gateway.quota.refusal import refusal_error
from gateway.quota.steps import Denied, Held, Reserve, Taken
from gateway.telemetry.observer import Observer
from gateway.telemetry.tracing import Tracing
from gateway.tenants.directory import Directory


class NameTaken(StoreUnavailable):
    """This gateway stood still, and meanwhile another request claimed the operation's name."""


@dataclass(eq=False)
class Holds:
    """Holds quota for purchases, and closes the holds. `wall` and `spread`: see `Proxy`."""

    ledger: Ledger
    directory: Directory
    wall: Callable[[], float]
    spread: Callable[[], float]
    observer: Observer
    tracing: Tracing

    async def take(self, reservation: Reserve, context: Context) -> Held | Taken:
        """Hold quota for the purchase, if the key still works, or claim an operation.

        Raises LimitReached, RepeatedUnknown, NameTaken, Unauthenticated, KeyDisabled or
        StoreUnavailable.
        """
        record, started = context.record, context.record.clock()
        with self.tracing.store("reserve"):
            held = await self.ledger.reserve(reservation, store_patience(record.own_seconds()))
        record.phase_ended("quota", started)
        record.rate_limits = held.rate_limits  # a refusal has them, too: its response shows them
        if isinstance(held, Denied):
            self.observer.purchase_refused(reservation.team, held.refusal)
            raise refusal_error(held.refusal, self.spread(), context.caller.key.id)
        if isinstance(held, Taken) and isinstance(held.found, Repeat):
            raise repeated_error(held.found, reservation.record)
        if isinstance(held, Taken) and context.name is not None:
            raise NameTaken
        try:
            # Again: the request may have waited, or the whole process may have stood still.
            await self.directory.confirm(context.caller)
        except BaseException as failure:  # nothing was sent
            await self.release(reservation, encode_failure(failure, record))
            raise
        context.decide(is_reserved=True)
        return held

    async def release(self, reservation: Reserve, failure: bytes = b"") -> None:
        """Close a hold without a charge. Waits at most 2 s, like `settle`.

        The `failure` is for clients that ask for it later.
        """
        with self.tracing.store("release"):
            await self.ledger.finish(reservation.release(failure=failure))

    async def settle(
        self, reservation: Reserve, held: Held, images: int, cost: int, **outcome: Any
    ) -> Operation | None:
        """Charge the purchase. Waits at most 2 s; the ledger goes on until that is written.

        `outcome` has further fields of the step. Returns the operation if it stays in the store.
        """
        swept, unknown = self.wall() > held.at + reservation.lease, outcome.get("unknown", False)
        self.observer.charged(reservation, cost, unknown=unknown, swept=swept)
        with self.tracing.store("settle"):
            return await self.ledger.finish(reservation.settle(held.at, images, cost, **outcome))
