"""Teams and keys as this process knows them: a copy in memory, kept fresh by asking for changes.

Authenticating needs no store on the hot path. The copy follows the store by generations, four
times a second, so that a revoked key stops working everywhere within a second. While the store is
away the copy still serves for `STALE_SECONDS`; after that nobody can be let in.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from gateway.background import Background
from gateway.errors import KeyDisabled, StoreUnavailable, Unauthenticated
from gateway.model import Caller, Key, Team
from gateway.ports import DirectoryStore
from gateway.rules import keys
from gateway.rules.headers import bearer

POLL_SECONDS = 0.25
STALE_SECONDS = 60.0
HURRY_SECONDS = 0.05
"""Least time between refreshes that failed authentications ask for: guessing must stay cheap."""


class Directory:
    """Who may come in. `wall` is the time of expiry dates, `monotonic` that of staleness."""

    def __init__(
        self,
        store: DirectoryStore,
        *,
        pepper: bytes,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._pepper = pepper
        self._wall = wall
        self._monotonic = monotonic
        self._generation = 0
        self._teams: dict[str, Team] = {}
        self._keys: dict[str, Key] = {}
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
    def age(self) -> float:
        """Seconds since the store was last heard of."""
        return self._monotonic() - self._read_at

    async def authenticate(self, authorization: Sequence[str]) -> Caller:
        """The caller behind the Authorization header lines of a request.

        Raises Unauthenticated, KeyDisabled, or StoreUnavailable where the copy is too old to
        trust. A key that fails is looked at once more after a refresh, whatever it failed for:
        a key made a moment ago works, and the time taken tells nothing about why.
        """
        token = bearer(authorization)
        if token is None or keys.parse(token) is None:
            raise Unauthenticated
        if self.age > STALE_SECONDS:
            await self.refresh()
        try:
            return self._admit(token)
        except Unauthenticated:
            with suppress(StoreUnavailable):
                await self.refresh(older_than=HURRY_SECONDS)
            return self._admit(token)

    async def refresh(self, older_than: float = 0.0) -> None:
        """Take over what changed in the store, unless that was done less than `older_than` s ago.

        Raises StoreUnavailable.
        """
        async with self._reading:
            if self.age < older_than:
                return
            changes = await self._store.changes(self._generation)
            self._teams.update((team.name, team) for team in changes.teams)
            self._keys.update((key.id, key) for key in changes.keys)
            self._generation = changes.generation
            self._read_at = self._monotonic()

    def _admit(self, token: str) -> Caller:
        key = self._keys.get(keys.parse(token) or "")
        match keys.verify(token, key, self._pepper, self._wall()):
            case "ok" if key is not None and key.team in self._teams:
                return Caller(self._teams[key.team], key)
            case "disabled":
                raise KeyDisabled
            case _:
                raise Unauthenticated
