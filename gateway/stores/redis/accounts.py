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
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.core.model import AuditEntry, Entry
from gateway.quota.account import EMPTY, Account
from gateway.quota.operations import LEASE_SECONDS, NONE
from gateway.quota.purchase import Purchase
from gateway.quota.store import Change, Loaded, RecordChange
from gateway.stores.codec import (
    decode_account,
    decode_operations,
    encode_account,
    encode_operations,
)
from gateway.stores.redis import names
from gateway.stores.redis.link import MICROSECONDS, Link, RedisPart, operation
from gateway.stores.redis.purchases import purchase_arguments
from gateway.stores.redis.scripts import Argument
from gateway.stores.redis.usage_sums import KEEP_SECONDS, entry_arguments, hour_keys, hours_of
from gateway.stores.sums import hour_of

CACHED = 4096
"""Decoded accounts in memory, at most."""

NEVER_WRITTEN = b""
_UNKNOWN = b"?"
"""Equals no stamp: a gateway may not replace a version that it has not loaded."""

_VERSION_BYTES = 8
_STAMP_BYTES = 16

_RECORD_STAMP_BYTES = 8

FORGOTTEN_AT_ONCE = 1_000
"""Bounds how long the server is busy with forgetting operations."""

_LOAD_KEYS = (names.ACCOUNTS, names.OPERATIONS)
_OPERATION_KEYS = (names.OPERATIONS, names.OPERATION_ENDS, names.OPERATIONS_BOUGHT)
_SWAP_KEYS = (
    *(names.ACCOUNTS, names.DUE, *_OPERATION_KEYS, names.HOURS),
    *(names.UNKNOWN, names.UNKNOWN_AT, names.AUDIT),
)

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
    records: Sequence[RecordChange] = (),
    audit: Sequence[AuditEntry] = (),
    purchases: Sequence[Purchase] = (),
    *,
    latest: int,
    keep: Sequence[int] = KEEP_SECONDS,
    replicated: bool = False,
) -> bool:
    """Run `swap.lua`; False where something has changed, or a refund finds no unknown charge.

    `purchases` are records without an entry, from an archive. `latest` is the latest time known, in
    microseconds. With `replicated`, the replicas must acknowledge it. Raises OverflowError, and
    writes nothing, where a sum would have more than 64 bits.
    """
    hours = hours_of(entries)
    keys = (*_SWAP_KEYS, *hour_keys(hours))
    arguments: list[Argument] = [latest, *keep, len(accounts)]
    for account in accounts:
        arguments += account
    arguments.append(len(records))
    for record in records:
        arguments += _record_arguments(record)
    arguments += (len(hours), *hours, *purchase_arguments(entries, purchases), len(audit))
    for change in audit:
        arguments += (change.at, msgspec.json.encode(change))
    arguments += entry_arguments(entries, hours)
    won = await link.call("swap", keys, *arguments, replicated=replicated)
    if won < 0:
        raise OverflowError("a sum has more than 64 bits")
    return bool(won)


def _record_arguments(change: RecordChange) -> list[Argument]:
    operations, state = change.operations, b""
    if operations.all:
        state = secrets.token_bytes(_RECORD_STAMP_BYTES) + encode_operations(operations)
    return [change.name, change.stamp, state, operations.ends, operations.expendable]


def _is_later(state: bytes | None, stamp: bytes) -> bool:
    return state is not None and state[:_VERSION_BYTES] > stamp[:_VERSION_BYTES]


class RedisAccounts(RedisPart):
    """The AccountStore in a hash of accounts, a sorted set of leases and the sums of each hour.

    A swap counts only once the replicas have it: see `Link.wait_replicas`.
    """

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._latest = 0  # the latest time that the server sent, in microseconds
        self._cache: dict[str, _Cached] = {}

    @operation("load")
    async def load(self, names: Sequence[str], records: Sequence[str] = ()) -> Loaded:
        cached = [self._cache.get(name, (NEVER_WRITTEN, EMPTY)) for name in names]
        arguments: list[Argument] = [len(names)]
        for name, (stamp, _) in zip(names, cached, strict=True):
            arguments += (name, stamp)
        now, *states = await self.link.call("load", _LOAD_KEYS, *arguments, *records)
        self._latest = max(self._latest, now)
        accounts = [
            self._read(name, state, known)
            for name, state, known in zip(names, states, cached, strict=False)
        ]
        operations = [
            (NONE, b"")
            if state is None
            else (decode_operations(state[_RECORD_STAMP_BYTES:]), state[:_RECORD_STAMP_BYTES])
            for state in states[len(names) :]
        ]
        return Loaded(accounts, self._latest / MICROSECONDS, operations)

    @operation("swap")
    async def swap(
        self,
        changes: Sequence[Change],
        entries: Sequence[Entry],
        records: Sequence[RecordChange] = (),
        audit: Sequence[AuditEntry] = (),
    ) -> bool:
        accounts = []
        new: dict[str, _Cached] = {}
        for change in changes:
            state = stamped(change.version + 1, change.account)
            new[change.name] = state[:_STAMP_BYTES], change.account
            loaded = self._stamp(change)
            accounts.append(account_arguments(change.name, loaded, state, change.account))
        won = await swap(
            self.link, accounts, entries, records, audit, latest=self._latest, replicated=True
        )
        if won:
            for name, cached in new.items():
                self._remember(name, cached)
        return won

    @operation("record")
    async def record(self, entries: Sequence[Entry]) -> None:
        await swap(self.link, (), entries, latest=self._latest)

    @operation("probe")
    async def probe(self, *, thorough: bool) -> None:  # a server refuses large and small scripts
        await swap(self.link, (), (), latest=self._latest, replicated=True)

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

    @operation("keep_alive")
    async def keep_alive(self, gateway: str, seconds: float) -> None:
        arguments = (gateway, seconds, 720 * LEASE_SECONDS)
        await self.link.call("keep_alive", (names.GATEWAYS,), *arguments)

    @operation("alive")
    async def alive(self, gateways: Iterable[str]) -> dict[str, float]:
        gateways = list(gateways)
        found = await self.link.call("alive", (names.GATEWAYS,), *gateways)
        ends = zip(gateways, found, strict=True)
        return {gateway: float(end) for gateway, end in ends if end is not None}

    @operation("forget_operations")
    async def forget_operations(self, most: int) -> None:
        arguments = (most, FORGOTTEN_AT_ONCE)
        while await self.link.call("forget_operations", _OPERATION_KEYS, *arguments):
            pass

    def _read(self, name: str, state: bytes | int | None, cached: _Cached) -> tuple[Account, int]:
        # The server lost writes if it has neither the cached state (it sends a number instead of
        # that) nor a later one.
        found = unstamped(state)[1] if isinstance(state, bytes) else EMPTY
        if cached[0] and not isinstance(state, int) and not _is_later(state, cached[0]):
            self._cache.pop(name, None)  # so that it is reported once
            self.link.operations.went_back(name, cached[1], found)
        if state is None:
            return EMPTY, 0
        if isinstance(state, bytes):
            cached = state[:_STAMP_BYTES], found
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
