"""Budgets: accounts with versions, read together and written all or none.

A version alone does not identify a state: a replica that takes over from its master, or a server
that restarts, may have lost the last writes, and then gives their versions out again. So each
state is stamped with its version and 8 random bytes. Scripts compare stamps. The accounts used
last are cached in decoded form with their stamps, so an unchanged account is not sent again.

Where the store lost writes, that is logged, not refused: a failover that loses one must not stop
all purchases. What is settled later is charged all the same (see `gateway.quota.ledger`).

The time is the server's, read together with the accounts. A swap sends the latest time that this
gateway knows, so that no decision is ever followed by an earlier time.
"""

import secrets
from collections.abc import Mapping, Sequence

from gateway.core.model import Entry
from gateway.quota.account import EMPTY, Account
from gateway.quota.store import Change, Loaded
from gateway.stores.codec import decode_account, encode_account
from gateway.stores.redis import names
from gateway.stores.redis.link import MICROSECONDS, Link, RedisPart, operation
from gateway.stores.redis.scripts import Argument
from gateway.stores.redis.usage_sums import KEEP_SECONDS, entry_arguments
from gateway.stores.sums import hour_of

CACHED = 4096
"""Decoded accounts in memory, at most."""

NEVER_WRITTEN = b""
_UNKNOWN = b"?"
"""Equals no stamp: a gateway may not replace a version that it has not loaded."""

_VERSION_BYTES = 8
_STAMP_BYTES = 16

_LOAD_KEYS = (names.ACCOUNTS,)

_Cached = tuple[bytes, Account]


def stamped(version: int, account: Account) -> bytes:
    """Return an account as the store keeps it, under a new stamp."""
    chance = secrets.token_bytes(_STAMP_BYTES - _VERSION_BYTES)
    return version.to_bytes(_VERSION_BYTES) + chance + encode_account(account)


def unstamped(state: bytes) -> tuple[int, Account]:
    """Return the version and the account of a state. Raises msgspec.DecodeError."""
    return int.from_bytes(state[:_VERSION_BYTES]), decode_account(state[_STAMP_BYTES:])


def account_arguments(name: str, loaded: bytes, state: bytes, account: Account) -> list[Argument]:
    """Return the arguments of `swap.lua` for one account that was loaded under a stamp."""
    lease = account.earliest_lease
    return [name, loaded, state, "" if lease is None else lease]


async def swap(
    link: Link,
    accounts: Sequence[Sequence[Argument]],
    entries: Sequence[Entry],
    *,
    latest: int,
    keep: Sequence[int] = KEEP_SECONDS,
) -> bool:
    """Run `swap.lua`; False where an account has moved on.

    `latest` is the latest time known, in microseconds. Raises OverflowError, and writes nothing,
    where a sum would have more than 64 bits.
    """
    usage_keys, usage = entry_arguments(entries)
    keys = (names.ACCOUNTS, names.DUE, names.HOURS, *usage_keys)
    arguments: list[Argument] = [latest, *keep, len(accounts)]
    for account in accounts:
        arguments += account
    won = await link.call("swap", keys, *arguments, *usage)
    if won < 0:
        raise OverflowError("a sum has more than 64 bits")
    return bool(won)


def _is_later(state: bytes | None, stamp: bytes) -> bool:
    return state is not None and state[:_VERSION_BYTES] > stamp[:_VERSION_BYTES]


class RedisAccounts(RedisPart):
    """The AccountStore in a hash of accounts, a sorted set of leases and the sums of each hour."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._latest = 0  # the latest time that the server sent, in microseconds
        self._cache: dict[str, _Cached] = {}

    @operation("load")
    async def load(self, names: Sequence[str]) -> Loaded:
        cached = [self._cache.get(name, (NEVER_WRITTEN, EMPTY)) for name in names]
        arguments: list[Argument] = []
        for name, (stamp, _) in zip(names, cached, strict=True):
            arguments += (name, stamp)
        now, *states = await self.link.call("load", _LOAD_KEYS, *arguments)
        self._latest = max(self._latest, now)
        accounts = [
            self._read(name, state, known)
            for name, state, known in zip(names, states, cached, strict=True)
        ]
        return Loaded(accounts, self._latest / MICROSECONDS)

    @operation("swap")
    async def swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        accounts = []
        new: dict[str, _Cached] = {}
        for change in changes:
            state = stamped(change.version + 1, change.account)
            new[change.name] = state[:_STAMP_BYTES], change.account
            loaded = self._stamp(change)
            accounts.append(account_arguments(change.name, loaded, state, change.account))
        won = await swap(self.link, accounts, entries, latest=self._latest)
        if won:
            for name, cached in new.items():
                self._remember(name, cached)
        return won

    @operation("record")
    async def record(self, entries: Sequence[Entry]) -> None:
        await swap(self.link, (), entries, latest=self._latest)

    @operation("written")
    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        if not purchases:
            return set()
        keys = [names.purchases(hour_of(at)) for at in purchases.values()]
        found = await self.link.call("written", keys, *purchases)
        return {id for id, there in zip(purchases, found, strict=True) if there}

    @operation("due")
    async def due(self) -> list[str]:
        found = await self.link.call("due", (names.DUE,))
        return [name.decode() for name in found]

    def _read(self, name: str, state: bytes | int | None, cached: _Cached) -> tuple[Account, int]:
        # The server lost writes if it has neither the cached state (it sends a number instead of
        # that) nor a later one.
        if cached[0] and not isinstance(state, int) and not _is_later(state, cached[0]):
            self._cache.pop(name, None)  # so that it is reported once
            self.link.operations.went_back(name)
        if state is None:
            return EMPTY, 0
        if isinstance(state, bytes):
            cached = state[:_STAMP_BYTES], unstamped(state)[1]
            self._remember(name, cached)
        stamp, account = cached
        return account, int.from_bytes(stamp[:_VERSION_BYTES])

    def _stamp(self, change: Change) -> bytes:
        """Return the stamp of the state that the change was made from."""
        if change.version == 0:
            return NEVER_WRITTEN
        stamp, _ = self._cache.get(change.name, (_UNKNOWN, EMPTY))
        loaded = change.version.to_bytes(_VERSION_BYTES)
        return stamp if stamp[:_VERSION_BYTES] == loaded else _UNKNOWN

    def _remember(self, name: str, cached: _Cached) -> None:
        if len(self._cache) >= CACHED:
            self._cache.clear()
        self._cache[name] = cached
