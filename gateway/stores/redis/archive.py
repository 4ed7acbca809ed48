"""The whole state of the store, out of it and into an empty one.

*Out*: one script reads teams, keys, accounts, the log of changes and the usage of this hour and the
last one, so that these agree; hits only summed up, for there may be a thousand of them for each
purchase. Older hours are read one by one afterwards: only an outcome that
comes in more than an hour after its reservation, and during the export, is then in the usage and
not in the account.

*In*: an import begins an epoch that nobody else knows, and marks the store as being imported. Until
the last step takes that mark away no gateway starts with the store, and those that knew it before
are in another epoch. An import that fails takes back what it wrote; after one that was killed
the next import does.
"""

import secrets
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, starmap
from math import ceil
from typing import Any

from gateway.config.store_url import StoreUrl
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Entry
from gateway.core.periods import HOUR_SECONDS
from gateway.stores.archive_format import (
    AccountRecord,
    ArchiveRecord,
    AuditRecord,
    CheckRecord,
    ClaimRecord,
    ClockRecord,
    EntryRecord,
    KeyRecord,
    NotEmpty,
    NotRestored,
    TeamRecord,
    UseRecord,
)
from gateway.stores.codec import decode_team
from gateway.stores.redis import names, scripts
from gateway.stores.redis.accounts import NEVER_WRITTEN, stamped, unstamped
from gateway.stores.redis.archive_usage import entries_of
from gateway.stores.redis.audit import decode_member, write_audit
from gateway.stores.redis.claims import RedisClaims, restore_claim
from gateway.stores.redis.directory import RedisDirectory, check_value, key_of
from gateway.stores.redis.link import MICROSECONDS, Link, operation
from gateway.stores.redis.opening import SCHEMA, inspect, telling
from gateway.stores.redis.scripts import Argument
from gateway.stores.redis.usage_entries import Written
from gateway.stores.redis.usage_packs import pack_keys
from gateway.stores.sums import hour_of, merged
from gateway.tenants.store import DirectoryWrite

BATCH = 1_000
"""Records that are read or written in one go."""

REMOVED_AT_ONCE = 1_000

KEPT_OF_HOUR = 3
"""Keys of an hour: its sums, its purchases, its pack."""

_CHECK = b"check:"
_DIRECTORY = (names.TEAMS, names.KEYS, names.STATES, names.ENDS)
_ALL = (
    *(*_DIRECTORY, names.CHANGED, names.USES),
    *(names.ACCOUNTS, names.DUE, names.AUDIT, names.HOURS, names.PACKED),
    *(names.CLAIMS, names.CLAIM_ENDS),
)


_Hours = dict[int, Sequence[Any] | None]
"""Hours that have usage, and what was read of them."""


class RedisArchive:
    """The ArchiveStore of one server."""

    def __init__(self, link: Link, place: StoreUrl) -> None:
        self.link = link
        self._place = place
        self._directory = RedisDirectory(link)
        self._claims = RedisClaims(link)

    async def export(self) -> AsyncGenerator[Sequence[ArchiveRecord], None]:
        with self.link.operation("export"):
            present = int(await self._now() // HOUR_SECONDS)
            # The next hour may begin before the script runs.
            latest = (present - 1, present, present + 1)
            parts, hours = await self._snapshot(latest)
            small = _small_records(*parts)
            while batch := list(islice(small, BATCH)):
                yield batch
            # Read after the rest: an alert delivered meanwhile is then not delivered again.
            yield [ClaimRecord(claim) for claim in await self._claims.current() if claim.done]
            older = [hour for hour in hours if hour not in latest]
            for hour in (*older, *latest):
                entries = entries_of(hour, *(hours.get(hour) or await self._kept_of(hour)))
                while batch := [EntryRecord(entry) for entry in islice(entries, BATCH)]:
                    yield batch

    async def _kept_of(self, hour: int) -> Sequence[Any]:
        """Read an hour's sums, purchases and pack."""
        return await self.link.call(scripts.SUMS, (names.META, *_keys_of(hour)))  # type: ignore[no-any-return]

    async def _snapshot(self, latest: Sequence[int]) -> tuple[Sequence[Any], _Hours]:
        """The small parts, and all hours; the latest of these with what they hold."""
        keys = [names.META, *_DIRECTORY, names.USES, names.ACCOUNTS, names.AUDIT]
        small = len(keys)
        keys += [names.HOURS, names.PACKED]
        for hour in latest:
            keys += _keys_of(hour)
        reply = await self.link.call(scripts.EXPORT, keys)
        read = zip(*[iter(reply[small + 2 :])] * KEPT_OF_HOUR, strict=True)
        hours: _Hours = dict.fromkeys(sorted(map(int, {*reply[small], *reply[small + 1]})))
        return reply[:small], {**hours, **dict(zip(latest, read, strict=True))}

    @operation("restore")
    async def restore(self, records: Iterable[ArchiveRecord]) -> None:
        await self._begin()
        try:
            await self._write_all(iter(records))
            await self.link.call(scripts.END_IMPORT, (names.META,))
        except BaseException:
            with suppress(StoreUnavailable):
                await self._remove_all()
                await self.link.call(scripts.REMOVE, (names.META, names.META))
            raise

    async def _begin(self) -> None:
        epoch = secrets.token_hex(16)
        usage = (names.HOURS, names.PACKED)
        keys = (names.META, names.ACCOUNTS, names.TEAMS, names.KEYS, names.AUDIT, *usage)
        with telling(self._place):
            await inspect(self.link)
            begun = await self.link.raw(scripts.BEGIN_IMPORT, keys, (epoch, SCHEMA))
        if begun == b"held":
            raise NotEmpty
        self.link.epoch = epoch
        if begun == b"again":
            await self._remove_all()

    async def _remove_all(self) -> None:
        """Remove all but `meta`. Which hours there are is removed last: it tells what is left."""
        found = [
            int(hour)
            for key in (names.HOURS, names.PACKED)
            for hour in await self.link.call(scripts.READ, (names.META, key), "ZRANGE", 0, -1)
        ]
        keys = iter([*pack_keys(found), *(key for hour in found for key in names.kept(hour))])
        while some := list(islice(keys, REMOVED_AT_ONCE)):
            await self.link.call(scripts.REMOVE, (names.META, *some))
        await self.link.call(scripts.REMOVE, (names.META, *_ALL))

    async def _write_all(self, records: Iterator[ArchiveRecord]) -> None:
        first = hour_of(await self._now() - max(Written.KEEP_SECONDS))
        while batch := list(islice(records, BATCH)):
            entries = []
            for record in batch:
                if isinstance(record, EntryRecord):
                    entries.append(record.entry)
                else:
                    await self._write(record)
            await self._write_entries(entries, first)

    async def _write(self, record: ArchiveRecord) -> None:
        match record:
            case CheckRecord(check=name, value=value):
                await check_value(self.link, name, value)
            case ClockRecord(at=at):
                await self._swap(told=ceil(at * MICROSECONDS))
            case TeamRecord(team=team):
                await self._commit(DirectoryWrite(teams=[team]))
            case KeyRecord(key=key):
                await self._commit(DirectoryWrite(keys=[key]))
            case UseRecord(key=id, at=at):
                await self._directory.record_use({id: at})
            case AccountRecord(account=name, version=version, state=account):
                lease = account.earliest_lease
                due = "" if lease is None else lease
                await self._swap(account=(name, NEVER_WRITTEN, stamped(version, account), due))
            case AuditRecord(change=change):
                await write_audit(self.link, [change])
            case ClaimRecord(claim=claim):
                await restore_claim(self.link, claim)

    async def _commit(self, write: DirectoryWrite) -> None:
        """Write teams or keys; nobody else does meanwhile."""
        meta = (names.META, names.META)
        generation = await self.link.call(scripts.READ, meta, "HGET", "generation")
        await self._directory.commit(int(generation), write)

    async def _write_entries(self, entries: Sequence[Entry], first: int) -> None:
        """Write usage; that of the hours from `first` on by id, for it may be written again."""
        by_id = [entry for entry in entries if hour_of(entry.at) >= first]
        rest = [entry for entry in entries if hour_of(entry.at) < first]
        if by_id:
            await self._swap(entries=by_id, keep=Written.KEEP_SECONDS)
        if rest:
            await self._swap(entries=merged(rest))

    async def _swap(
        self,
        *,
        told: int = 0,
        account: Sequence[Argument] = (),
        entries: Sequence[Entry] = (),
        keep: Sequence[int] = (0, 0),
    ) -> None:
        """Write with the swap script: bounded in time, and refused where memory is used up."""
        written = Written(entries)
        keys = (names.META, names.ACCOUNTS, names.DUE, names.HOURS, *written.keys)
        arguments = (told, *keep, 1 if account else 0, *account, *written.arguments)
        if await self.link.call(scripts.SWAP, keys, *arguments) < 0:
            raise NotRestored("The archive has a number that no store can keep.")

    async def _now(self) -> float:
        (now,) = await self.link.call(scripts.LOAD, (names.META, names.ACCOUNTS))
        return float(now) / MICROSECONDS


def _small_records(
    meta: Sequence[bytes],
    teams: Sequence[bytes],
    keys: Sequence[bytes],
    states: Sequence[bytes],
    ends: Sequence[bytes],
    uses: Sequence[bytes],
    accounts: Sequence[bytes],
    changes: Sequence[bytes],
) -> Iterator[ArchiveRecord]:
    single, state_of, end_of = _mapping(meta), _mapping(states), _mapping(ends)
    for name, value in single.items():
        if name.startswith(_CHECK):
            yield CheckRecord(name.removeprefix(_CHECK).decode(), value)
    yield ClockRecord(int(single.get(b"clock", 0)) / MICROSECONDS)
    for text in _mapping(teams).values():
        yield TeamRecord(decode_team(text))
    for id, text in _mapping(keys).items():
        yield KeyRecord(key_of(text, state_of[id], end_of.get(id)))
    for id, at in _mapping(uses).items():
        yield UseRecord(id.decode(), float(at))
    for name, state in _mapping(accounts).items():
        version, account = unstamped(state)
        yield AccountRecord(name.decode(), version, account)
    yield from starmap(AuditRecord, enumerate(map(decode_member, changes), 1))


def _mapping(values: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(*[iter(values)] * 2, strict=True))


def _keys_of(hour: int) -> tuple[str, str, str]:
    """Where an hour's sums, purchases and pack are."""
    return names.usage(hour), names.purchases(hour), names.hour_pack(hour)
