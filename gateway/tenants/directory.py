"""Teams and keys in the memory of this process: a copy that polls the store for changes.

Authentication needs no store on the hot path. The copy reads the store's changes four times a
second, so that a revoked key stops working everywhere within a second. A copy that is older than
that although the store is not known to be away belongs to a process that stood still (stopped,
suspended, without CPU): it is refreshed before it decides anything. While the store is away the
copy serves for `STALE_SECONDS`; after that every key is refused.

A successful authentication is cached under a keyed hash of the whole header, because the header
itself would be a plain secret in memory. It stays valid while the copy has the very same key and
team. Failures are not cached, and the hash depends on a secret of the process. So the cache makes
guessing no faster, and its timing reveals nothing.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

from gateway.core import key_format
from gateway.core.errors import KeyDisabled, StoreUnavailable, Unauthenticated
from gateway.core.headers import bearer
from gateway.core.model import Caller, Key, Team
from gateway.core.tasks import Background, Service
from gateway.tenants.store import DirectoryStore

POLL_SECONDS = 0.25
STALE_SECONDS = 60.0
FRESH_SECONDS = 4 * POLL_SECONDS
"""How old the copy may be to decide without a refresh."""

AWAY_SECONDS = 4.0
"""How long after a failed read the store is taken for away: another request would only wait. It is
longer than the interval of polls that fail."""

MOST_CALLERS = 4_096
"""The most headers in the cache of successful authentications."""

HURRY_SECONDS = 0.05
"""The least time between two refreshes after failed authentications: guessing must stay cheap."""


@dataclass(eq=False)
class Directory(Service):
    """Authenticates keys. `wall` is the time for expiry dates, `monotonic` the time for staleness,
    which must go on while the machine is suspended.

    `teams` has all teams by name and `keys` all keys by id, as of the store's `generation`. Only
    the directory itself writes them.

    `on_use` receives the id of each authenticated key. `on_time` receives the store's time and the
    seconds that reading it took, from every reading with a time.
    """

    store: DirectoryStore
    _: KW_ONLY
    pepper: bytes
    wall: Callable[[], float]
    monotonic: Callable[[], float]
    on_use: Callable[[str], None] = lambda id: None
    on_time: Callable[[float, float], None] = lambda now, took: None
    generation: int = field(default=0, init=False)
    teams: dict[str, Team] = field(default_factory=dict, init=False)
    keys: dict[str, Key] = field(default_factory=dict, init=False)
    _unavailable: type[StoreUnavailable] = StoreUnavailable
    _callers: dict[bytes, Caller] = field(default_factory=dict)
    _mark_key: bytes = field(default_factory=partial(secrets.token_bytes, 32))
    _read_at: float = float("-inf")
    _failed_at: float = float("-inf")
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _background: Background = field(default_factory=lambda: Background("directory"))

    async def start(self) -> None:
        """Read everything once, then poll for changes. Raises StoreUnavailable."""
        await self.refresh()
        self._background.every(POLL_SECONDS, self.refresh, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop polling."""
        await self._background.close()

    @property
    def age(self) -> float:
        """Seconds since the store last answered."""
        return self.monotonic() - self._read_at

    async def authenticate(self, authorization: Sequence[str]) -> Caller:
        """Return the caller behind the Authorization header lines of a request.

        Raises Unauthenticated, KeyDisabled, or StoreUnavailable if the copy is too old to trust. A
        key that fails is checked again after a refresh, whatever the reason: so a key that was
        created a moment ago works, and the duration does not reveal the reason.
        """
        if self.age > FRESH_SECONDS:
            await self._refresh_soon()
            if self.age > STALE_SECONDS:
                self._callers.clear()  # each of them is examined, and refused
        mark = self._mark(authorization)
        if (caller := self._recalled(mark)) is None:
            caller = await self._examine(authorization)
            self._remember(mark, caller)
        self.on_use(caller.key.id)
        return caller

    async def confirm(self, caller: Caller) -> None:
        """Check again that the key of an authenticated caller works, before money is spent.

        Raises Unauthenticated or KeyDisabled. Waits only where the process stood still.
        """
        if self.age > FRESH_SECONDS:
            await self._refresh_soon()
        key = self.keys.get(caller.key.id)
        self._require(key, "invalid" if key is None else key_format.condition(key, self.wall()))

    def _mark(self, authorization: Sequence[str]) -> bytes:
        """The name of these header lines in the cache."""
        lines = "\n".join(authorization).encode(errors="surrogateescape")
        return hashlib.blake2b(lines, digest_size=32, key=self._mark_key).digest()

    def _recalled(self, mark: bytes) -> Caller | None:
        """The cached caller, if neither its key nor its team has changed."""
        caller = self._callers.get(mark)
        if caller is None:
            return None
        key, team = caller.key, caller.team
        same = self.keys.get(key.id) is key and self.teams.get(key.team) is team
        return caller if same and key_format.condition(key, self.wall()) == "ok" else None

    def _remember(self, mark: bytes, caller: Caller) -> None:
        if len(self._callers) >= MOST_CALLERS:
            self._callers.clear()  # each of them is examined once more
        self._callers[mark] = caller

    async def _examine(self, authorization: Sequence[str]) -> Caller:
        """Check the key in the header lines."""
        token = bearer(authorization)
        if token is None or key_format.parse(token) is None:
            raise Unauthenticated
        if self.age > STALE_SECONDS:
            raise self._unavailable()  # polling goes on, so this ends once the store answers
        try:
            return self._admit(token)
        except (Unauthenticated, KeyDisabled):
            await self._refresh_soon()
            return self._admit(token)

    async def refresh(self) -> None:
        """Read the store's changes. Raises StoreUnavailable."""
        async with self._reading:
            await self._read()

    @property
    def _is_away(self) -> bool:
        """Whether the last read failed, a moment ago."""
        failed = self._failed_at > self._read_at
        return failed and self.monotonic() - self._failed_at < AWAY_SECONDS

    async def _refresh_soon(self) -> None:
        """Refresh, at a moment after this call, unless the store is away.

        Concurrent callers share one refresh.
        """
        asked = self.monotonic()
        if self._is_away:
            return
        async with self._reading:
            # Checked again: the holder of the lock may have found that the store is away.
            if self._read_at < asked and not self._is_away:
                await asyncio.sleep(max(0.0, HURRY_SECONDS - self.age))
                with suppress(StoreUnavailable):
                    await self._read()

    async def _read(self) -> None:
        began = self.monotonic()
        try:
            changes = await self.store.changes(self.generation)
        except StoreUnavailable as failure:
            self._unavailable = type(failure)
            self._failed_at = self.monotonic()
            raise
        if changes.whole:
            self.teams, self.keys = {}, {}
        self.teams.update((team.name, team) for team in changes.teams)
        for team in changes.teams:
            if team.deleted:
                del self.teams[team.name]
        self.keys.update((key.id, key) for key in changes.keys)
        self.generation = changes.generation
        self._read_at = began  # not its end: a change during the reading may be missing
        if changes.now is not None:
            self.on_time(changes.now, self.monotonic() - began)

    def _admit(self, token: str) -> Caller:
        key = self.keys.get(key_format.parse(token) or "")
        return self._require(key, key_format.verify(token, key, self.pepper, self.wall()))

    def _require(self, key: Key | None, verdict: key_format.Verdict) -> Caller:
        """Return the caller of a key with this verdict, or raise the error."""
        match verdict:
            case "ok" if key is not None and key.team in self.teams:
                return Caller(self.teams[key.team], key)
            case "disabled":
                raise KeyDisabled
            case _:
                raise Unauthenticated
