"""The cache in memory: aiocache's interface over a dictionary that is bounded by bytes.

aiocache's own memory backend grows without an end and starts a timer for each entry. Here

- the bytes never exceed `max_bytes`, the overhead of entries included;
- when room is needed the expired go first, then those that nobody asked for the longest;
- an entry that is too large is not kept, and `set` answers False;
- objects go in and come out as they are, so they must not change.

Nothing here waits, so nothing can happen between two steps of one method.
"""

import heapq
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer
from msgspec import Struct

ENTRY_BYTES = 512
"""What an entry takes besides its key and its value: the objects and places that hold them."""


class _Entry(Struct):
    value: Any
    bytes: int
    expires: float | None
    hits: int = 0


class Asked(Struct, frozen=True):
    """An entry and how often it was found; `left` are the seconds it has to live, None without an
    end.
    """

    key: str
    value: Any
    hits: int
    bytes: int
    left: float | None


class MemoryCache(BaseCache):  # type: ignore[misc]  # aiocache is published without types
    """Keeps values until their time is over or their room is needed.

    `size` tells the bytes of a value; one above `max_entry_bytes` is not kept. `clock` counts
    seconds and never runs backwards. `on_evict` hears why an entry went: "expired", "size" (its
    room was needed) or "replaced". Entries that are deleted or cleared go unheard.
    """

    NAME = "memory"

    def __init__(
        self,
        max_bytes: int,
        max_entry_bytes: int,
        size: Callable[[Any], int],
        clock: Callable[[], float] = time.monotonic,
        on_evict: Callable[[str], None] | None = None,
        *,
        namespace: str | None = None,
        ttl: float | None = None,
        timeout: float | None = 0,
    ) -> None:
        super().__init__(serializer=NullSerializer(), namespace=namespace, ttl=ttl, timeout=timeout)
        self._max_bytes = max_bytes
        self._max_entry_bytes = max_entry_bytes
        self._size = size
        self._clock = clock
        self._on_evict = on_evict
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the latest used last
        self._due: list[tuple[float, str]] = []  # a heap; may hold what has changed since
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Bytes of all entries, the expired that are still there included."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: str) -> Any:
        """The value under this key, or None: `get` without what aiocache wraps around it."""
        entry = self._living(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        entry.hits += 1
        return entry.value

    def peek(self, key: str) -> Any:
        """The same, not counted as found."""
        entry = self._living(key)
        return None if entry is None else entry.value

    def amend(self, key: str, value: Any) -> None:
        """Put a value in the place of the one that is there, if one is; all else stays."""
        entry = self._living(key)
        if entry is not None:
            more = self._size(value) - self._size(entry.value)
            entry.value = value
            entry.bytes += more
            self._bytes += more
            self._make_room(0)

    def asked_for(self) -> Iterator[Asked]:
        """All living entries that were found at least once, the most found first. The cache must
        not change meanwhile.
        """
        now = self._clock()
        found = [(entry.hits, key) for key, entry in self._entries.items() if entry.hits]
        found.sort(key=itemgetter(0), reverse=True)
        for hits, key in found:
            entry = self._entries[key]
            left = None if entry.expires is None else entry.expires - now
            if left is None or left > 0:
                yield Asked(key, entry.value, hits, entry.bytes, left)

    # -- over a restart -------------------------------------------------------------------------

    def living(self) -> Iterator[tuple[str, Any, float]]:
        """Key, value and seconds left (infinite without an end) of all that has not expired, the
        latest used first. The cache must not change meanwhile.
        """
        now = self._clock()
        for key, entry in reversed(self._entries.items()):
            left = math.inf if entry.expires is None else entry.expires - now
            if left > 0:
                yield key, entry.value, left

    def put_back(self, key: str, value: Any, ttl: float) -> bool:
        """Add what `living` gave as the least recently used; False where it has expired, is there
        already, or has no room: nothing leaves for it.
        """
        total = self._total(key, value)
        if ttl <= 0 or self._living(key) is not None or self._bytes + total > self._max_bytes:
            return False
        if not self._put(key, value, None if math.isinf(ttl) else ttl):
            return False
        self._entries.move_to_end(key, last=False)
        return True

    async def get(self, key: Any, default: Any = None, **options: Any) -> Any:
        """As aiocache's, without its wrappers, which take longer than the look-up itself."""
        if options or self.plugins or self.namespace or type(key) is not str:
            return await super().get(key, default, **options)
        value = await self._get(key)
        return default if value is None else value

    # -- what aiocache's public methods call ----------------------------------------------------

    async def _get(self, key: str, encoding: str | None = None, _conn: Any = None) -> Any:
        return self.find(key)

    async def _multi_get(
        self, keys: Sequence[str], encoding: str | None = None, _conn: Any = None
    ) -> list[Any]:
        return [await self._get(key) for key in keys]

    async def _set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        _cas_token: Any = None,
        _conn: Any = None,
    ) -> bool:
        entry = self._living(key)
        if _cas_token is not None and (entry is None or _cas_token != entry.value):
            return False
        if entry is not None:
            self._evict(key, "replaced")
        return self._put(key, value, ttl)

    async def _multi_set(
        self, pairs: Iterable[tuple[str, Any]], ttl: float | None = None, _conn: Any = None
    ) -> bool:
        return all([await self._set(key, value, ttl) for key, value in pairs])

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: Any = None) -> bool:
        if self._living(key) is not None:
            raise ValueError("the key exists already; set replaces its value")
        return self._put(key, value, ttl)

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return self._living(key) is not None

    async def _expire(self, key: str, ttl: float | None, _conn: Any = None) -> bool:
        entry = self._living(key)
        if entry is None:
            return False
        entry.expires = self._expiry(key, ttl)
        return True

    async def _delete(self, key: str, _conn: Any = None) -> int:
        if self._living(key) is None:
            return 0
        self._remove(key)
        return 1

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        for key in [key for key in self._entries if key.startswith(namespace or "")]:
            self._remove(key)
        return True

    # -- the entries ----------------------------------------------------------------------------

    def _living(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None or entry.expires is None or self._clock() < entry.expires:
            return entry
        self._evict(key, "expired")
        return None

    def _put(self, key: str, value: Any, ttl: float | None) -> bool:
        total = self._total(key, value)
        if self._size(value) > self._max_entry_bytes or total > self._max_bytes:
            return False
        self._make_room(total)
        self._entries[key] = _Entry(value, total, self._expiry(key, ttl))
        self._bytes += total
        return True

    def _total(self, key: str, value: Any) -> int:
        return self._size(value) + len(key.encode()) + ENTRY_BYTES

    def _make_room(self, wanted: int) -> None:
        if self._bytes + wanted > self._max_bytes:
            self._evict_expired()
        while self._bytes + wanted > self._max_bytes:
            self._evict(next(iter(self._entries)), "size")

    def _evict_expired(self) -> None:
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            expires, key = heapq.heappop(self._due)
            entry = self._entries.get(key)
            if entry is not None and entry.expires == expires:
                self._evict(key, "expired")

    def _expiry(self, key: str, ttl: float | None) -> float | None:
        """When an entry that lives for `ttl` seconds expires; never for 0 and None."""
        if not ttl:
            return None
        expires = self._clock() + ttl
        if len(self._due) > 2 * len(self._entries) + 64:
            self._forget_changed()
        heapq.heappush(self._due, (expires, key))
        return expires

    def _forget_changed(self) -> None:
        entries = self._entries.items()
        self._due = [(entry.expires, key) for key, entry in entries if entry.expires is not None]
        heapq.heapify(self._due)

    def _evict(self, key: str, reason: str) -> None:
        self._remove(key)
        if self._on_evict is not None:
            self._on_evict(reason)

    def _remove(self, key: str) -> None:
        self._bytes -= self._entries.pop(key).bytes
