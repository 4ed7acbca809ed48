"""Teams and keys as this process knows them: a copy in memory, kept fresh by asking for changes.

Authenticating needs no store on the hot path. The copy follows the store by generations, four
times a second, so that a revoked key stops working everywhere within a second. While the store is
away the copy still serves for `STALE_SECONDS`; after that nobody can be let in.

Who was let in is remembered by a keyed hash of the whole header (a header itself would be a plain
secret in memory), and let in again for as long as the copy holds the very same key and team.
Failures are not remembered, and whether a hash is known tells nothing to whoever does not know
the process's own key of it: so guessing is neither quicker nor told more.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from gateway.core import key_format
from gateway.core.errors import KeyDisabled, StoreUnavailable, Unauthenticated
from gateway.core.headers import bearer
from gateway.core.model import Caller, Key, Team
from gateway.core.tasks import Background, Service
from gateway.tenants.store import DirectoryStore

POLL_SECONDS = 0.25
STALE_SECONDS = 60.0
FOLLOWING_SECONDS = 4 * POLL_SECONDS
"""With no word from the store for this long it is away, and asking once more would only wait."""

REMEMBERED = 4_096
"""Headers that were let in, remembered at most."""

HURRY_SECONDS = 0.05
"""Least time before a reading that a failed authentication asks for: guessing must stay cheap."""


class Directory(Service):
    """Who may come in. `wall` is the time of expiry dates, `monotonic` that of staleness.

    `on_use` is told the id of every key that was let in, `on_time` the store's time with every
    reading that has it, and how many seconds that took.
    """

    def __init__(
        self,
        store: DirectoryStore,
        *,
        pepper: bytes,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        on_use: Callable[[str], None] = lambda id: None,
        on_time: Callable[[float, float], None] = lambda now, took: None,
    ) -> None:
        self._store = store
        self._pepper = pepper
        self._wall = wall
        self._monotonic = monotonic
        self._on_use = on_use
        self._on_time = on_time
        self._generation = 0
        self._unavailable = StoreUnavailable
        self._teams: dict[str, Team] = {}
        self._keys: dict[str, Key] = {}
        self._admitted: dict[bytes, Caller] = {}
        self._mark_key = secrets.token_bytes(32)
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._background = Background("directory")

    async def start(self) -> None:
        """Read everything once, then follow. Raises StoreUnavailable."""
        await self.refresh()
        self._background.every(POLL_SECONDS, self.refresh, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop following."""
        await self._background.close()

    @property
    def teams(self) -> Mapping[str, Team]:
        """All teams by name."""
        return MappingProxyType(self._teams)

    @property
    def keys(self) -> Mapping[str, Key]:
        """All keys by id."""
        return MappingProxyType(self._keys)

    @property
    def generation(self) -> int:
        """Which state of the store's directory this copy is of."""
        return self._generation

    @property
    def age(self) -> float:
        """Seconds since the store was last heard of."""
        return self._monotonic() - self._read_at

    async def authenticate(self, authorization: Sequence[str]) -> Caller:
        """The caller behind the Authorization header lines of a request.

        Raises Unauthenticated, KeyDisabled, or StoreUnavailable where the copy is too old to
        trust. A key that fails is looked at once more after a refresh, whatever it failed for:
        a key made a moment ago works, and the time taken tells nothing about why.
        """
        mark = self._mark(authorization)
        if (caller := self._recalled(mark)) is None:
            caller = await self._examine(authorization)
            self._remember(mark, caller)
        self._on_use(caller.key.id)
        return caller

    def _mark(self, authorization: Sequence[str]) -> bytes:
        """What these header lines are remembered by."""
        lines = "\n".join(authorization).encode(errors="surrogateescape")
        return hashlib.blake2b(lines, digest_size=32, key=self._mark_key).digest()

    def _recalled(self, mark: bytes) -> Caller | None:
        """Who was let in with this mark before, if nothing that it rested on has changed."""
        caller = self._admitted.get(mark)
        if caller is None or self.age > STALE_SECONDS:
            return None
        key, team = caller.key, caller.team
        same = self._keys.get(key.id) is key and self._teams.get(key.team) is team
        return caller if same and key_format.condition(key, self._wall()) == "ok" else None

    def _remember(self, mark: bytes, caller: Caller) -> None:
        if len(self._admitted) >= REMEMBERED:
            self._admitted.clear()
        self._admitted[mark] = caller

    async def _examine(self, authorization: Sequence[str]) -> Caller:
        """The caller, by the key that the header lines hold."""
        token = bearer(authorization)
        if token is None or key_format.parse(token) is None:
            raise Unauthenticated
        if self.age > STALE_SECONDS:
            raise self._unavailable()  # the polling goes on, and ends this
        try:
            return self._admit(token)
        except (Unauthenticated, KeyDisabled):
            if self.age < FOLLOWING_SECONDS:
                with suppress(StoreUnavailable):
                    await self._refresh_soon()
            return self._admit(token)

    async def refresh(self) -> None:
        """Take over what changed in the store. Raises StoreUnavailable."""
        async with self._reading:
            await self._read()

    async def _refresh_soon(self) -> None:
        """A refresh that begins after now, shared with all who ask for one meanwhile."""
        asked = self._monotonic()
        async with self._reading:
            # Looked at again: whoever had the lock may have found that the store is away.
            if self._read_at < asked and self.age < FOLLOWING_SECONDS:
                await asyncio.sleep(max(0.0, HURRY_SECONDS - self.age))
                await self._read()

    async def _read(self) -> None:
        began = self._monotonic()
        try:
            changes = await self._store.changes(self._generation)
        except StoreUnavailable as failure:
            self._unavailable = type(failure)
            raise
        if changes.whole:
            self._teams, self._keys = {}, {}
        self._teams.update((team.name, team) for team in changes.teams)
        for team in changes.teams:
            if team.deleted:
                del self._teams[team.name]
        self._keys.update((key.id, key) for key in changes.keys)
        self._generation = changes.generation
        self._read_at = began
        if changes.now is not None:
            self._on_time(changes.now, self._monotonic() - began)

    def _admit(self, token: str) -> Caller:
        key = self._keys.get(key_format.parse(token) or "")
        match key_format.verify(token, key, self._pepper, self._wall()):
            case "ok" if key is not None and key.team in self._teams:
                return Caller(self._teams[key.team], key)
            case "disabled":
                raise KeyDisabled
            case _:
                raise Unauthenticated
