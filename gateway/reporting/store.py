"""The ports to the store: usage, the request history, buyers of pictures, claims for alerts."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.key_format import KeyId
from gateway.core.model import Claim, UsageRow
from gateway.core.money import MicroDollars
from gateway.core.periods import Timestamp
from gateway.reporting.request_lines import (
    ErrorKind,
    HistoryBatch,
    HourLatency,
    LineFilter,
    RequestLine,
)


class UsageStore(Protocol):
    """Reads the usage history. Every method may raise StoreUnavailable."""

    async def report(
        self,
        by: Sequence[str],
        start: float | None,
        end: float | None,
        team: str | Sequence[str] | None = None,
    ) -> list[UsageRow]:
        """Return usage summed by the fields of `by`, in the order of the groups.

        Fields are "team", "key", "model", "size", "quality", "outcome", "hour" and "day"; any
        other raises ValueError. `start` (inclusive) and `end` (exclusive) bound the reservations'
        time. They are rounded up to whole hours. `team` selects one team or several. Groups whose
        sums are all 0 have no row.
        """

    async def tidy(self, now: float, before: float | None) -> bool:
        """Do one short step of housekeeping; return False where nothing was left to do.

        Sums up what reports would have to sum up each time. Deletes days and weeks that ended
        before `before`; None keeps all. Several gateways may do this at the same time.
        """


class HistoryStore(Protocol):
    """Keeps recent requests, errors and latency. None of it is money, and archives leave it out.

    Every method may raise StoreUnavailable.
    """

    async def write(self, batch: HistoryBatch) -> None:
        """Add a batch once, however often it is written, also after StoreUnavailable."""

    async def lines(
        self, wanted: LineFilter, limit: int, before: str | None = None
    ) -> list[RequestLine]:
        """Return up to `limit` of the wanted lines before a place, the latest first."""

    async def errors(self, start: float, end: float, team: str | None = None) -> list[ErrorKind]:
        """Return errors by kind, the most frequent first, of one team or of all.

        They are those of the hours that begin from `start` (inclusive) to `end` (exclusive).
        """

    async def latency(self, start: float, end: float) -> list[HourLatency]:
        """Return the latency of each hour that begins from `start` (inclusive) to `end`.

        Hours without requests are absent.
        """

    async def forget(self, now: float) -> None:
        """Delete what is older than `LINE_DAYS`, `ERROR_DAYS` and `LATENCY_DAYS`."""


class PictureBuyer(Struct, frozen=True, kw_only=True):
    """A purchase that bought a picture. `cost` is that of the whole purchase, at the time `at`.

    `sha256` is the hash of the picture's bytes, as hexadecimal digits. `request_id` is that
    of the request that was billed.
    """

    sha256: str
    purchase: str
    request_id: str
    at: Timestamp
    team: str
    key: KeyId
    model: str
    cost: MicroDollars


class PictureStore(Protocol):
    """Knows which purchases bought a picture. Archives leave this out.

    Every method may raise StoreUnavailable.
    """

    async def write(self, records: Sequence[PictureBuyer], seconds: float | None) -> None:
        """Add records, each once per picture and purchase.

        A store that deletes by itself keeps them for so many seconds from their time, None for
        ever.
        """

    async def find(self, sha256: str, limit: int) -> list[PictureBuyer]:
        """Return up to `limit` purchases that bought the picture, the latest first."""

    async def forget(self, before: float) -> bool:
        """Delete some records from before this time. Returns False where none was left."""


class ClaimStore(Protocol):
    """Claims for what only one gateway may do, such as delivering an alert.

    Every method may raise StoreUnavailable; the change may have happened then. Archives hold
    only claims that are done.
    """

    async def claim(self, name: str, owner: str, seconds: float, note: bytes = b"") -> float | None:
        """Claim `name` for so many seconds from now, or extend the owner's claim.

        Returns None, or, where it is done or another owner's: in how many seconds it can be
        claimed. Then nothing changes.
        """

    async def complete(self, name: str, owner: str, seconds: float, note: bytes = b"") -> None:
        """Mark `name` as done, whoever claims it: nobody can claim it for so many seconds."""

    async def current(self) -> list[Claim]:
        """Return the claims that have not ended, those that end last first."""
