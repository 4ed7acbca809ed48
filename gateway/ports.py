"""The small doors to the outside world, as the waiting floor sees them.

An adapter translates its own failures at this border: a store raises nothing but
`gateway.errors.StoreUnavailable`, an upstream nothing but `gateway.errors.UpstreamError`.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.model import AuditEntry, Bought, Claim, Entry, Key, Team, UsageRow
from gateway.rules.account import Account
from gateway.rules.activity import Batch, ErrorKind, Latency, Line, Wanted
from gateway.rules.archive import Record
from gateway.rules.settings import Upstream as UpstreamSettings
from gateway.rules.webhooks import Webhook


class Loaded(Struct, frozen=True):
    """Accounts as they stood together at one moment, each with its version, and that moment.

    An account that was never written is `EMPTY` with version 0. `now` is the store's clock:
    seconds since the epoch; it never runs backwards, not even over a restart.
    """

    accounts: list[tuple[Account, int]]
    now: float


class Change(Struct, frozen=True):
    """One account to write, if its version is still the one that was loaded."""

    name: str
    version: int
    account: Account


class AccountStore(Protocol):
    """Where budgets live. Every method may raise StoreUnavailable, within about 2 seconds."""

    async def load(self, names: Sequence[str]) -> Loaded:
        """The named accounts, in order, as one consistent reading."""

    async def swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        """Write all accounts and entries, or none where a version has moved on (False).

        A change's account gets the version loaded plus one. When StoreUnavailable is raised the
        swap may have happened: whoever asks again must be idempotent. OverflowError is raised, and
        nothing written, where a number is none that can be kept.

        An entry replaces the one with its id, if that has the same `at` and was written within
        three days (one of a hit: within an hour). Later it may count beside it.
        """

    async def record(self, entries: Sequence[Entry]) -> None:
        """Write entries that touch no budget (hits)."""

    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        """Which of these purchases, by id and the time of their reservation, have an entry.

        It may be told of those of the last three days alone. What is written after an account was
        loaded, by whoever changes that account too, may be missed: then the swap is refused.
        """

    async def due(self) -> list[str]:
        """Names of the accounts with a hold whose lease has run out."""


class DirectoryChanges(Struct, frozen=True):
    """Teams and keys written after some generation, and the generation that this leads to.

    `whole` says that this is all there is: what is not in it is gone. `now` is the store's clock,
    None where it is that of the gateways' own machine.
    """

    generation: int
    teams: list[Team]
    keys: list[Key]
    whole: bool = False
    now: float | None = None


class DirectoryWrite(Struct, frozen=True, kw_only=True):
    """Teams and keys as they are to be from now on, and the log entries that tell of it."""

    teams: Sequence[Team] = ()
    keys: Sequence[Key] = ()
    audit: Sequence[AuditEntry] = ()


class DirectoryStore(Protocol):
    """Where teams and keys live. Every method may raise StoreUnavailable."""

    async def changes(self, since: int) -> DirectoryChanges:
        """What was written after generation `since`; everything, since 0.

        Everything also since a generation that this store has not given out: it was another's,
        or it was lost.
        """

    async def commit(self, generation: int, write: DirectoryWrite) -> bool:
        """Write all of it, or nothing where the directory's generation has moved on (False).

        Teams and keys are created or replaced whole; each key's team must exist. The next
        generation is taken only where there are teams or keys. When StoreUnavailable is raised
        the write may have happened.
        """

    async def record_use(self, uses: Mapping[str, float]) -> None:
        """Keep when keys were used, by id; the latest time stands. It makes no generation."""

    async def last_uses(self) -> dict[str, float]:
        """When each key was last used, by id; those never used are absent."""


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


class AuditStore(Protocol):
    """Where the log of changes is read; `DirectoryStore.commit` writes it.

    Every method may raise StoreUnavailable.
    """

    async def audit(
        self,
        start: float | None,
        end: float | None,
        team: str | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        """The entries from `start` (inclusive) to `end` (exclusive), the latest first.

        `team` leaves out what is not that team's; `limit` is how many at the most.
        """

    async def forget_audit(self, before: float) -> None:
        """Forget the entries of before that time."""


class ClaimStore(Protocol):
    """What gateways of one store do once only, such as to tell somebody something.

    Every method may raise StoreUnavailable; what it was to do may have been done then. Archives
    have what is done, not what is only claimed.
    """

    async def claim(self, name: str, owner: str, seconds: float, note: bytes = b"") -> float | None:
        """Claim what has this name for so many seconds from now, or claim it further.

        Where it is another's, or done: in how many seconds it can be claimed, and nothing is
        changed.
        """

    async def complete_claim(
        self, name: str, owner: str, seconds: float, note: bytes = b""
    ) -> None:
        """It is done, whoever has claimed it by now: nobody can claim it for so many seconds."""

    async def claims(self) -> list[Claim]:
        """All that have not ended, those that end last first."""


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


class ArchiveStore(Protocol):
    """Where the whole state goes out and comes in. Every method may raise StoreUnavailable."""

    def export(self) -> AsyncGenerator[Sequence[Record], None]:
        """All that it holds, in batches and in an archive's order, as it stood at one moment.

        Gateways go on meanwhile. Accounts and usage agree: neither has what the other lacks.
        """

    async def restore(self, records: Iterable[Record]) -> None:
        """In the place of `open`: make the store of these records, all or none.

        They are as an archive's reader gives them; versions and the clock's mark come with them.
        Raises what `open` does, NotRestored where the store has teams, keys, accounts or usage
        already, and whatever iterating raises. One that was killed is never served from: it is
        undone, or can be begun again.
        """


class Store(
    AccountStore,
    DirectoryStore,
    UsageStore,
    AuditStore,
    ClaimStore,
    ActivityStore,
    ArchiveStore,
    Protocol,
):
    """All of it in one place, open until it is closed."""

    async def open(self) -> None:
        """Make it ready, and make what lacks.

        Raises UnusableStore where an operator has to act, StoreUnavailable where it is away.
        """

    async def close(self) -> None:
        """Finish what was begun and let go. Later operations raise StoreUnavailable."""

    async def check_value(self, name: str, value: bytes) -> bool:
        """Whether `value` is what was first given under `name`; the first one is kept."""

    async def confirm_reset(self) -> bool:
        """Accept that the store lost what it held: gateways that refuse it since go on with it.

        False where there is nothing to confirm. An operator's word, never a gateway's own.
        """


class Lease(Struct, frozen=True):
    """The right to buy what has this name, for as long as this holder keeps it up."""

    name: str
    holder: str


class Rival(Struct, frozen=True):
    """Who has a lease, and in how many seconds that ends unless it is renewed."""

    holder: str
    seconds: float


class Told(Struct, frozen=True):
    """What the holder of a lease told at its end: see `gateway.rules.news`."""

    lease: Lease
    told: bytes


class Leases(Protocol):
    """What gateways of one store elect a buyer with. Methods may raise StoreUnavailable, within
    about a second; what they were to do may have been done then.
    """

    async def take(self, lease: Lease, seconds: float) -> Rival | None:
        """Take a lease for so many seconds; who has it, where somebody does."""

    async def renew(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        """Make these live for so many seconds from now; those that are another's by now.

        One that had ended is taken again.
        """

    async def end(self, endings: Sequence[tuple[Lease, bytes]]) -> None:
        """End each lease, unless it is another's by now, and tell the news to all gateways."""

    async def hand_over(self, lease: Lease, bought: Bought) -> bool:
        """Leave an answer to those who wait for this lease's end; False where nobody does, or it
        is too large.
        """

    async def handed_over(self, lease: Lease) -> Bought | None:
        """The answer that was left, for some seconds after."""

    def listen(self) -> AsyncGenerator[Told | None, None]:
        """All that is told from now on; None once it is certain that nothing is missed any more.

        Raises StoreUnavailable when the subscription is lost.
        """

    async def close(self) -> None:
        """Let go. Later calls raise StoreUnavailable."""


class Reply(Struct, frozen=True):
    """The upstream's whole answer: body inflated and within its bound, header names lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Receipt(Struct, frozen=True, kw_only=True):
    """What became of one attempt to tell somebody something.

    `told` says it in words, without anything secret. One that is `passing` may go well later.
    """

    status: int | None = None
    told: str
    passing: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


class Webhooks(Protocol):
    """Whom the gateway tells what people should know."""

    async def send(self, webhook: Webhook, id: str, body: bytes, now: float) -> Receipt:
        """Send one message once, within some seconds. Raises nothing."""


NO_TRACE: Mapping[str, str] = {}


class Upstream(Protocol):
    """The paid API. One call is at most one request on the wire: nothing is ever sent twice."""

    async def generate(
        self,
        body: bytes,
        request_id: str,
        settings: UpstreamSettings,
        trace: Mapping[str, str] = NO_TRACE,
    ) -> Reply:
        """Send one generation and read its whole answer, whatever its status.

        `settings` say where it goes, with which key, and how long it may take. `trace` are the
        headers of the trace that it belongs to.

        Raises UpstreamUnreachable where nothing can have been sent; UpstreamCut, UpstreamTimeout
        or UpstreamUnknown (over the size bound, unreadable encoding) where it may have been.
        """
