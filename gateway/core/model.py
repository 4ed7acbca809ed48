"""The values everything speaks of: frozen, without behaviour beyond their own shape.

Units, everywhere in the gateway: money is an integer of micro-dollars (1 USD = 1,000,000), time is
float seconds since the Unix epoch in UTC, sizes in memory are bytes.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Struct

from gateway.core.listing import HIDDEN, Shown
from gateway.core.money import MicroDollars
from gateway.core.periods import Timestamp


class Limits(Struct, frozen=True, kw_only=True):
    """The six limits of a team or a key. None means no limit; costs are in micro-dollars."""

    images_per_day: int | None = None
    images_per_month: int | None = None
    cost_per_day: MicroDollars | None = None
    cost_per_month: MicroDollars | None = None
    requests_per_minute: int | None = None
    concurrent_requests: int | None = None

    def __bool__(self) -> bool:
        """True where at least one limit is set."""
        return self != NO_LIMITS


NO_LIMITS = Limits()


class Team(Struct, frozen=True, kw_only=True):
    """A team, with its policy and limits. None in a policy field means everything on offer."""

    name: Annotated[str, Shown(str, None, "team")]
    models: tuple[str, ...] | None = None
    sizes: tuple[str, ...] | None = None
    qualities: tuple[str, ...] | None = None
    max_n: int | None = None
    cache: bool = True
    limits: Limits = NO_LIMITS
    deleted: Annotated[bool, HIDDEN] = False
    """A deleted team counts as absent and its keys are revoked, but the budgets and history of its
    name stay: a new team of this name continues with them."""
    purged: Annotated[int, HIDDEN] = 0
    """How often its cache was purged. It is part of the names of the team's cached answers."""


KeyState = Literal["active", "disabled", "revoked"]


class Key(Struct, frozen=True, kw_only=True):
    """A team's key as the store keeps it: the secret itself is nowhere, only its digest.

    `id` is public: it stands in lists and logs. `digest` is HMAC-SHA256 of the whole key under
    the pepper (32 bytes).

    A rotated key and those that replace it are a line: they share limits, budgets and history.
    `first` is the id of the line's first key, None where this is it. `grace_ends` is when a key
    that was replaced stops working, unless it expires before.
    """

    id: str
    team: str
    name: str
    digest: bytes
    created: float
    expires: float | None = None
    state: KeyState = "active"
    limits: Limits = NO_LIMITS
    first: str | None = None
    grace_ends: float | None = None

    @property
    def line(self) -> str:
        """What its line's budgets and history are kept under: the id of the line's first key."""
        return self.first or self.id

    @property
    def ends(self) -> float | None:
        """When it stops working by itself, None for never."""
        ends = [time for time in (self.expires, self.grace_ends) if time is not None]
        return min(ends, default=None)


class Caller(Struct, frozen=True):
    """Who is asking: an authenticated key and its team, as of this moment."""

    team: Team
    key: Key


class ImageRequest(Struct, frozen=True, kw_only=True):
    """One request for images, read, checked, and with every default filled in.

    `body` holds every field in the order it came, defaults filled in: what the upstream is sent.
    `quality` is None where the client left it out (the upstream then decides, as with "auto").
    """

    model: str
    prompt: str
    size: str
    n: int
    quality: str | None
    body: Mapping[str, Any]


EntryOutcome = Literal["bought", "failed", "unknown", "cached", "coalesced", "refused"]

FREE_OUTCOMES: frozenset[EntryOutcome] = frozenset({"cached", "coalesced", "refused"})
"""Those that cost nothing: their entries are merged, and never touch a budget."""


class UsageSums(Struct, frozen=True, kw_only=True):
    """Counts of requests and images, with their money.

    `requests` were admitted or served from the cache. `requests_refused` were not, so they are
    counted apart. `images_bought` includes `images_unknown`, which were charged although their
    delivery could not be confirmed. `images_cached` includes `images_coalesced`, which came from
    an identical purchase still in flight.
    """

    requests: int = 0
    requests_refused: int = 0
    images_bought: int = 0
    images_cached: int = 0
    images_coalesced: int = 0
    images_unknown: int = 0
    cost: MicroDollars = 0
    saved: MicroDollars = 0


class Entry(UsageSums, frozen=True, kw_only=True):
    """One entry of the usage history. An entry with the same id replaces the former one.

    `at` is the time of the reservation, so a call over midnight belongs to the day that admitted
    it. `key` is the line of the key, so the history of a rotated key stays together. `requests`
    is above 1 only where cache hits were merged.
    """

    id: str
    at: float
    team: str
    key: str
    model: str
    size: str
    quality: str
    outcome: EntryOutcome
    requests: int = 1


class UsageRow(UsageSums, frozen=True, kw_only=True):
    """The usage of one group. `group` holds one value for each field of the grouping."""

    group: tuple[str, ...]


def sum_usage(rows: Iterable[UsageSums]) -> UsageSums:
    """Add up usage."""
    rows = list(rows)
    names = UsageSums.__struct_fields__
    return UsageSums(**{name: sum(getattr(row, name) for row in rows) for name in names})


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One line of the audit log: who changed what, when, with its state before and after.

    `team` and `key` (its public id) name what was changed, if it was one. `before` and `after` are
    public forms, None where nothing existed: never a secret or a digest.
    """

    at: Timestamp
    who: str
    action: str
    team: str | None = None
    key: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class Claim(Struct, frozen=True, kw_only=True):
    """That somebody does what has this name, until it `ends` by the store's clock, or has done it.

    `note` is what they tell of it.
    """

    name: str
    owner: str
    ends: float
    done: bool
    note: bytes


class About(Struct, frozen=True, kw_only=True):
    """What an answer in this gateway's memory is an answer to. `scope` says who shares it.

    `prompt` is None unless an operator has prompts shown.
    """

    scope: str
    team: str
    model: str
    size: str
    quality: str
    prompt: str | None = None


class Bought(Struct, frozen=True, kw_only=True):
    """A purchase's answer as it goes to clients and into the cache.

    `body` is the upstream's JSON as it came; `cost` what was charged for it; `at` when it was
    bought. `kept` says whether it went into the cache, `tier` where in the cache it was found.
    `about` stays in this process: what comes from elsewhere lacks it.
    """

    body: bytes
    images: int
    cost: int
    at: float
    kept: bool = False
    tier: Literal["memory", "redis"] = "memory"
    about: About | None = None
