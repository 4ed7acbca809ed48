"""The ports through which reports read usage and recent requests."""

from collections.abc import Sequence
from typing import Protocol

from gateway.core.model import UsageRow
from gateway.reporting.request_lines import Batch, ErrorKind, Latency, Line, Wanted


class UsageStore(Protocol):
    """Where the usage history is read. Every method may raise StoreUnavailable."""

    async def usage(
        self,
        by: Sequence[str],
        start: float | None,
        end: float | None,
        team: str | Sequence[str] | None = None,
    ) -> list[UsageRow]:
        """Usage summed by "team", "key", "model", "size", "quality", "outcome", "hour" and/or
        "day", in the groups' order.

        `start` (inclusive) and `end` (exclusive) bound the reservations' time, in whole hours:
        what lies between two of them may count as the later one. `team` leaves out all others;
        it may be several. Groups that come to nothing are no rows.
        """

    async def tidy_usage(self, now: float, before: float | None) -> bool:
        """Do one short step of what keeps the history small and quick; False where there was
        nothing to do.

        What days and weeks that were over at `before` have is forgotten, and may be so from then
        on; None keeps it. Anybody may do this at any time, several at once too.
        """


class ActivityStore(Protocol):
    """What became of requests lately. None of it is money; archives leave it out.

    Every method may raise StoreUnavailable.
    """

    async def write_activity(self, batch: Batch) -> None:
        """Add this, unless it was added before: also where StoreUnavailable was raised then."""

    async def activity(self, wanted: Wanted, limit: int, before: str | None = None) -> list[Line]:
        """Up to so many of the wanted lines, the latest first; only those before a place."""

    async def errors(self, start: float, end: float, team: str | None = None) -> list[ErrorKind]:
        """Errors by kind of the hours that begin from `start` to before `end`, the most frequent
        first. `team` leaves out all others.
        """

    async def latency(self, start: float, end: float) -> list[Latency]:
        """How long requests took in the hours that begin from `start` to before `end`, in the
        order of time; hours without requests are absent.
        """

    async def forget_activity(self, now: float) -> None:
        """Forget what is older than `LINE_DAYS`, `ERROR_DAYS` and `LATENCY_DAYS`."""
