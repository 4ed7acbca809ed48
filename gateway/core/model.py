"""The values that all parts of the gateway share. They are frozen, and decide nothing.

Units are the same everywhere. Money is an integer of micro-dollars: 1 USD is 1,000,000. Time is
float seconds since the Unix epoch, in UTC. Sizes are bytes.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Annotated, Any, Literal

from msgspec import Struct

from gateway.core.listing import HIDDEN, Shown
from gateway.core.money import MicroDollars
from gateway.core.periods import Timestamp


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of a team, a key or the gateway. A null value means no limit."""

    images_per_day: int | None = None
    images_per_month: int | None = None
    cost_per_day: MicroDollars | None = None
    cost_per_month: MicroDollars | None = None
    requests_per_minute: int | None = None
    concurrent_requests: int | None = None

    def __bool__(self) -> bool:
        """Whether at least one limit is set."""
        return self != NO_LIMITS


NO_LIMITS = Limits()


Deliver = Literal["auto", "b64_json", "url", "both", "upstream"]
"""The form of pictures in an answer. `auto` is the upstream's, with base64 beside a mere URL."""


class Team(Struct, frozen=True, kw_only=True):
    """A team, with its policy and limits. A policy field that is null restricts nothing."""

    name: Annotated[str, Shown(str, None, "team")]
    models: tuple[str, ...] | None = None
    sizes: tuple[str, ...] | None = None
    qualities: tuple[str, ...] | None = None
    max_n: int | None = None
    cache: bool = True
    deliver: Deliver | None = None
    limits: Limits = NO_LIMITS
    unknown_hold_seconds: float | None = None
    deleted: Annotated[bool, HIDDEN] = False
    """A deleted team counts as absent and its keys are revoked, but the budgets and history of its
    name stay: a new team of this name continues with them."""
    purged: Annotated[int, HIDDEN] = 0
    """How often its cache was purged. It is part of the names of the team's cached answers."""


KeyState = Literal["active", "disabled", "revoked"]


class Key(Struct, frozen=True, kw_only=True):
    """A team's key as the store keeps it. Nothing stores the secret itself, only its digest.

    `id` is public and appears in lists and logs. `digest` is the HMAC-SHA256 of the whole key
    under the pepper (32 bytes).

    A rotated key and its replacements are one line of keys: they share limits, budgets and
    history. `first` is the id of the line's first key, or None if this is the first. A replaced
    key stops working at `grace_ends`, unless it expires before.
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
        """The name of its line, under which budgets and history are kept: the first key's id."""
        return self.first or self.id

    @property
    def ends(self) -> float | None:
        """When the key stops working, or None if it never does."""
        ends = [time for time in (self.expires, self.grace_ends) if time is not None]
        return min(ends, default=None)


class Caller(Struct, frozen=True):
    """The authenticated caller of a request: its key and its team."""

    team: Team
    key: Key


ResponseFormat = Literal["url", "b64_json"]
"""The form of a picture in an answer."""


class ImageRequest(Struct, frozen=True, kw_only=True):
    """A valid request for images, with all defaults filled in.

    `body` has every field in the client's order, and is sent to the upstream. Those in `neutral` do
    not tell it from other requests. `quality` is None if the client left it out: then the upstream
    decides, as with "auto". `response_format` is the form in which the client reads pictures, None
    if it does not say. `stream`: it reads the answer as a stream of events. `partial_images` are
    those of each picture that the upstream is asked for.
    """

    model: str
    prompt: str
    size: str
    n: int
    quality: str | None
    body: Mapping[str, Any]
    neutral: frozenset[str] = frozenset()
    response_format: ResponseFormat | None = None
    stream: bool = False
    partial_images: int = 0


EntryOutcome = Literal["bought", "failed", "unknown", "cached", "coalesced", "refused"]
"""The outcomes in the usage history. Logs and metrics have finer ones, which name each error."""

FREE_OUTCOMES: frozenset[EntryOutcome] = frozenset({"cached", "coalesced", "refused"})
"""Outcomes that cost nothing. Their entries are merged, and never touch a budget."""


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

    `team` and `key` (its public id) name the team or key that was changed. `before` and `after` are
    its public forms, without secrets and digests; null means that it did not exist.
    """

    at: Timestamp
    who: str
    action: str
    team: str | None = None
    key: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class RefusedBy(Struct, frozen=True, kw_only=True):
    """The limit that refused a request, as it stood then. Clients do not see it.

    `owner` is a team, the public id of a line of keys, or null for a limit of the whole gateway.
    Money is dollars as decimal text, everything else a count. `resets_at` is when all of the limit
    is free again, null if nobody knows. `wait_seconds` is null unless waiting that long may help.
    """

    scope: str
    owner: str | None
    limit: str
    size: int | str
    used: int | str
    held: int | str
    asked: int | str
    resets_at: Timestamp | None
    wait_seconds: float | None


class Claim(Struct, frozen=True, kw_only=True):
    """A claim on a task that only one gateway may do, such as the delivery of an alert.

    It is valid until `ends` by the store's clock. After that another gateway may claim the task,
    unless it is `done`. `note` is data of the owner, such as the state of the delivery.
    """

    name: str
    owner: str
    ends: float
    done: bool
    note: bytes


class AnsweredRequest(Struct, frozen=True, kw_only=True, gc=False):
    """The request that a cached answer belongs to. `scope` names the teams that share the answer.

    `prompt` is None unless an operator has switched prompts on.
    """

    scope: str
    team: str
    model: str
    size: str
    quality: str
    prompt: str | None = None


class Picture(Struct, frozen=True, gc=False, array_like=True):
    """A picture of an answer, apart from its bytes and its URL.

    `name` is its name in the image store, "" if it was not kept. `has_url`: the upstream gave a
    URL, which works `until` this time. `fetched`: that was all it gave, and the gateway added the
    base64.
    """

    name: str = ""
    has_url: bool = False
    until: float = inf
    fetched: bool = False


class Bought(Struct, frozen=True, kw_only=True, gc=False):
    """The answer to a purchase, as it goes into the cache, and to clients that ask for no form.

    `body` is the upstream's JSON: its own bytes, or re-encoded if its form had faults or if base64
    was added. `pictures` has one for each item that holds a picture, in their order. `cost` was
    charged for it at the time `at`. `kept` means that the answer went into the cache, and `tier` is
    the cache tier that it came from. `about` never leaves this process, so an answer from elsewhere
    has none.
    """

    body: bytes
    images: int
    cost: MicroDollars
    at: Timestamp
    kept: bool = False
    tier: Literal["memory", "disk", "redis"] = "memory"
    about: AnsweredRequest | None = None
    pictures: tuple[Picture, ...] = ()
