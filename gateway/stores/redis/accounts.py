"""Budgets: accounts with versions, read together and written all or none.

A version alone does not say which state it stands for: a replica that takes over from its master,
or a server that restarts, may have lost the last writes, and then gives their versions out again.
So each state is stamped with its version and 8 random bytes. Scripts compare stamps, and accounts
are kept decoded under theirs, so that one that has not changed is not sent again.

A store that has lost writes is told of, not refused: a failover that loses one must not stop all
purchases. What is settled later is charged all the same (see `gateway.quota.ledger`).

The time is the server's, read together with the accounts. A swap tells the server the latest time
that this gateway went by, so that what was decided is never followed by an earlier time.
"""

import secrets
from collections.abc import Mapping, Sequence

from gateway.core.model import Entry
from gateway.quota.account import EMPTY, Account
from gateway.quota.store import Change, Loaded
from gateway.stores.codec import decode_account, encode_account
from gateway.stores.redis import names, scripts
from gateway.stores.redis.link import MICROSECONDS, Link, operation
from gateway.stores.redis.scripts import Argument
from gateway.stores.redis.usage_entries import Written, written

KEPT = 4096
"""Decoded accounts kept at most."""

NEVER_WRITTEN = b""
_UNKNOWN = b"?"
"""What no stamp is: a version that this gateway has not loaded is not what it may replace."""

_VERSION_BYTES = 8
_STAMP_BYTES = 16

_LOADED_FROM = (names.META, names.ACCOUNTS)

_Kept = tuple[bytes, Account]


def stamped(version: int, account: Account) -> bytes:
    """An account as the store keeps it, under a stamp that nobody else gives."""
    chance = secrets.token_bytes(_STAMP_BYTES - _VERSION_BYTES)
    return version.to_bytes(_VERSION_BYTES) + chance + encode_account(account)


def unstamped(state: bytes) -> tuple[int, Account]:
    """Version and account of what the store keeps. Raises msgspec.DecodeError."""
    return int.from_bytes(state[:_VERSION_BYTES]), decode_account(state[_STAMP_BYTES:])


def _later(state: bytes | None, stamp: bytes) -> bool:
    return state is not None and state[:_VERSION_BYTES] > stamp[:_VERSION_BYTES]


class RedisAccounts:
    """The AccountStore in two hashes: accounts by name, and the usage of each hour."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._latest = 0  # the latest time that the server answered, in microseconds
        self._kept: dict[str, _Kept] = {}

    @operation("load")
    async def load(self, names: Sequence[str]) -> Loaded:
        known = [self._kept.get(name, (NEVER_WRITTEN, EMPTY)) for name in names]
        arguments: list[Argument] = []
        for name, (stamp, _) in zip(names, known, strict=True):
            arguments += (name, stamp)
        now, *states = await self.link.call(scripts.LOAD, _LOADED_FROM, *arguments)
        self._latest = max(self._latest, now)
        accounts = [
            self._read(name, state, kept)
            for name, state, kept in zip(names, states, known, strict=True)
        ]
        return Loaded(accounts, self._latest / MICROSECONDS)

    @operation("swap")
    async def swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        return await self._swap(changes, entries)

    @operation("record")
    async def record(self, entries: Sequence[Entry]) -> None:
        await self._swap((), entries)

    @operation("written")
    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        return await written(self.link, purchases)

    @operation("due")
    async def due(self) -> list[str]:
        found = await self.link.call(scripts.DUE, (names.META, names.DUE))
        return [name.decode() for name in found]

    async def _swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        written, arguments = Written(entries), list[Argument]()
        new: dict[str, _Kept] = {}
        for change in changes:
            state = stamped(change.version + 1, change.account)
            new[change.name] = state[:_STAMP_BYTES], change.account
            lease = change.account.earliest_lease
            arguments += (change.name, self._stamp(change), state)
            arguments.append("" if lease is None else lease)
        won = await self.link.call(
            scripts.SWAP,
            (names.META, names.ACCOUNTS, names.DUE, names.HOURS, *written.keys),
            *(self._latest, *Written.KEEP_SECONDS, len(changes), *arguments, *written.arguments),
        )
        if won < 0:
            raise OverflowError("a sum has more than 64 bits")
        if won:
            for name, kept in new.items():
                self._keep(name, kept)
        return bool(won)

    def _read(self, name: str, state: bytes | int | None, kept: _Kept) -> tuple[Account, int]:
        # Not the stamp that is known, and not a later one either.
        if kept[0] and not isinstance(state, int) and not _later(state, kept[0]):
            self._kept.pop(name, None)  # tell it once
            self.link.went_back(name)
        if state is None:
            return EMPTY, 0
        if isinstance(state, bytes):
            kept = state[:_STAMP_BYTES], unstamped(state)[1]
            self._keep(name, kept)
        stamp, account = kept
        return account, int.from_bytes(stamp[:_VERSION_BYTES])

    def _stamp(self, change: Change) -> bytes:
        """The stamp of what the change was made from."""
        if change.version == 0:
            return NEVER_WRITTEN
        stamp, _ = self._kept.get(change.name, (_UNKNOWN, EMPTY))
        loaded = change.version.to_bytes(_VERSION_BYTES)
        return stamp if stamp[:_VERSION_BYTES] == loaded else _UNKNOWN

    def _keep(self, name: str, kept: _Kept) -> None:
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[name] = kept
