"""The cache in memory: a dictionary bounded by bytes.

aiocache's own memory backend is unbounded and starts a timer for each entry. Here

- the bytes never exceed `max_bytes`, the overhead of entries included;
- expired entries are evicted first when space is needed, then the least recently used ones;
- an entry that is too large is not stored, and `set` returns False.

No method waits, so nothing can change between two steps of one method.
"""

import heapq
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer
from msgspec import Struct

from gateway.core.model import Bought
from gateway.core.tasks import in_turns
from gateway.telemetry.observer import NO_OBSERVER, Observer

ENTRY_BYTES = 512
"""Overhead of an entry on top of its key and value: the objects and slots that hold them."""

CHARACTER_BYTES = 4
"""Most bytes that a character of a string takes."""


def answer_bytes(bought: Bought) -> int:
    """The memory that an answer takes, its prompt included."""
    prompt = bought.about.prompt if bought.about else None
    return len(bought.body) + (CHARACTER_BYTES * len(prompt) if prompt else 0)


COMPARED = 2_000
"""Entries that are compared with the most repeated ones at once."""

EXPIRED_AT_ONCE = 100
"""Expired entries that a new entry evicts, beyond those whose space it needs."""


class AnswerCache(BaseCache):  # type: ignore[misc]  # aiocache is published without types
    """The part of aiocache's interface that the gateway uses.

    It has `get`, `set`, `delete`, `clear` and `close`. A cache implements `_get`, `_set`,
    `_delete`, `_clear` and `_close`, which aiocache calls. Values are passed on as they are,
    without serialisation, so they must not change. No timeout is set: aiocache would wrap each
    call in `wait_for`, which takes twice as long as a cache hit.

    A cache also implements `look`, which is not aiocache's.
    """

    def __init__(self) -> None:
        super().__init__(serializer=NullSerializer(), timeout=0)

    async def look(self, key: str) -> Bought | None:
        """The answer of this key, or None, as if nobody had looked: no use, no hit, no copy."""
        raise NotImplementedError  # as aiocache does: its base class is no ABC

    async def _close(self, *args: Any, _conn: Any = None, **kwargs: Any) -> None:
        """Nothing to close."""


class _Entry(Struct, gc=False):
    value: Any
    bytes: int
    expires: float  # infinite if endless
    hits: int = 0


class LivingEntry(Struct, frozen=True, gc=False):
    """An entry that has not expired. `left` is its life in seconds, infinite if endless."""

    key: str
    value: Any
    hits: int
    bytes: int
    left: float


@dataclass(eq=False)
class MemoryCache(AnswerCache):
    """Stores values until they expire or are evicted.

    `size` returns the bytes of a value; a value above `max_entry_bytes` is not stored. `clock`
    returns seconds and never runs backwards. The observer counts evictions: "expired", "size"
    (their space was needed) or "replaced". Deleted and cleared entries are not counted.
    """

    NAME = "memory"

    max_bytes: int
    max_entry_bytes: int
    size: Callable[[Any], int] = answer_bytes
    clock: Callable[[], float] = time.monotonic
    observer: Observer = NO_OBSERVER
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)  # latest used last
    _due: list[tuple[float, str]] = field(default_factory=list)  # a heap; some are outdated
    _bytes: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def bytes(self) -> int:
        """Bytes of all entries, including expired ones that are not evicted yet."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: str) -> Any:
        """The value of this key, or None. It counts as a hit and as a use."""
        entry = self._living(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        entry.hits += 1
        return entry.value

    def peek(self, key: str) -> Any:
        """The value of this key, or None, without counting a hit or a use."""
        entry = self._living(key)
        return None if entry is None else entry.value

    async def look(self, key: str) -> Any:
        """As `peek`: see `AnswerCache`."""
        return self.peek(key)

    def amend(self, key: str, value: Any) -> None:
        """Replace the value of a stored entry; its expiry, hits and order of use stay."""
        entry = self._living(key)
        if entry is not None:
            more = self.size(value) - self.size(entry.value)
            entry.value = value
            entry.bytes += more
            self._bytes += more
            self._make_room(0)  # the new value may be the larger one

    def living(self) -> Iterator[LivingEntry]:
        """All entries that have not expired, the latest used first. The cache must not change
        meanwhile.
        """
        now = self.clock()
        for key, entry in reversed(self._entries.items()):
            left = entry.expires - now
            if left > 0:
                yield LivingEntry(key, entry.value, entry.hits, entry.bytes, left)

    async def walk(self) -> AsyncIterator[LivingEntry]:
        """All entries that have not expired, the latest used first, in turns with other tasks.

        The cache may change meanwhile; entries that are added meanwhile may be missing.
        """
        now = self.clock()
        async for key in in_turns(list(reversed(self._entries))):
            entry = self._entries.get(key)
            if entry is not None and entry.expires > now:
                yield LivingEntry(key, entry.value, entry.hits, entry.bytes, entry.expires - now)

    async def most_hits(
        self, limit: int, wanted: Callable[[Any], bool] = lambda value: True
    ) -> list[LivingEntry]:
        """Up to `limit` living entries with a hit and a wanted value, most hits first."""

        def most(used: list[LivingEntry]) -> list[LivingEntry]:
            return heapq.nlargest(limit, used, key=lambda entry: entry.hits)

        found: list[LivingEntry] = []
        async for entry in self.walk():
            if entry.hits and wanted(entry.value):
                found.append(entry)
            if len(found) >= limit + COMPARED:  # a list of all would be sorted in one go
                found = most(found)
        return most(found)

    # -- aiocache's interface -------------------------------------------------------------------

    async def get(self, key: Any, default: Any = None, **options: Any) -> Any:
        """As aiocache's, without its wrappers, which take longer than the look-up itself."""
        value = self.find(key)
        return default if value is None else value

    async def _set(self, key: str, value: Any, ttl: float | None = None, **options: Any) -> bool:
        if self._living(key) is not None:
            self._evict(key, "replaced")
        return self._put(key, value, ttl)

    async def _delete(self, key: str, _conn: Any = None) -> int:
        if self._living(key) is None:
            return 0
        self._remove(key)
        return 1

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        entries, due = self._entries, self._due
        self._entries, self._due, self._bytes = OrderedDict(), [], 0
        # One by one, because freeing their memory takes its time.
        async for _ in in_turns(range(len(entries))):
            entries.popitem()
        async for _ in in_turns(range(len(due))):
            due.pop()
        return True

    # -- the entries ----------------------------------------------------------------------------

    def _living(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None or self.clock() < entry.expires:
            return entry
        self._evict(key, "expired")
        return None

    def _put(self, key: str, value: Any, ttl: float | None) -> bool:
        total = self._total(key, value)
        if self.size(value) > self.max_entry_bytes or total > self.max_bytes:
            return False
        self._make_room(total)
        self._entries[key] = _Entry(value, total, self._expiry(key, ttl))
        self._bytes += total
        return True

    def _total(self, key: str, value: Any) -> int:
        return self.size(value) + len(key.encode()) + ENTRY_BYTES

    def _make_room(self, wanted: int) -> None:
        if self._bytes + wanted > self.max_bytes:
            self._evict_expired(wanted)
        while self._bytes + wanted > self.max_bytes:
            self._evict(next(iter(self._entries)), "size")

    def _evict_expired(self, wanted: int) -> None:
        """Evict expired entries: one new entry must not pay for a hundred thousand of them."""
        now, evicted = self.clock(), 0
        while self._due and self._due[0][0] <= now:
            if evicted >= EXPIRED_AT_ONCE and self._bytes + wanted <= self.max_bytes:
                return
            expires, key = heapq.heappop(self._due)
            entry = self._entries.get(key)
            if entry is not None and entry.expires == expires:
                self._evict(key, "expired")
                evicted += 1

    def _expiry(self, key: str, ttl: float | None) -> float:
        """When an entry with this `ttl` in seconds expires; never for 0 and None."""
        expires = self.clock() + (ttl or math.inf)
        # Entries that left early stay in the heap, so it is rebuilt once they are most of it.
        if len(self._due) > 2 * len(self._entries) + 64:
            self._drop_outdated()
        if expires < math.inf:
            heapq.heappush(self._due, (expires, key))
        return expires

    def _drop_outdated(self) -> None:
        entries = self._entries.items()
        self._due = [(entry.expires, key) for key, entry in entries if entry.expires < math.inf]
        heapq.heapify(self._due)

    def _evict(self, key: str, reason: str) -> None:
        self._remove(key)
        self.observer.cache_eviction(self.NAME, reason)

    def _remove(self, key: str) -> None:
        self._bytes -= self._entries.pop(key).bytes
