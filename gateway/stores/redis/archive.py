"""Exports the whole store, and imports into an empty one.

Export: one script reads teams, keys, accounts, the audit log and the usage of this hour and the
last one, so that these agree. Free answers come only as sums: there may be a thousand of them for
each purchase. Older hours are read one by one afterwards. So only an outcome that arrives during
the export, more than an hour after its reservation, is in the usage and not in the account.

Import: it begins an epoch that no gateway knows, and marks the store as being imported. Until the
last step removes that mark, no gateway starts with the store, and running gateways are in another
epoch. A failed import removes what it wrote; after one that was killed, the next import does.
"""

import secrets
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice, starmap
from math import ceil

from gateway.core.errors import StoreUnavailable
from gateway.core.model import Entry
from gateway.core.periods import HOUR_SECONDS
from gateway.stores import archive_format as archive
from gateway.stores.archive_format import ArchiveRecord
from gateway.stores.codec import decode_team
from gateway.stores.redis import accounts, claims, directory, names
from gateway.stores.redis.link import MICROSECONDS, Link, RedisPart, operation
from gateway.stores.redis.opening import SCHEMA, explaining, inspect
from gateway.stores.redis.purchases import purchase_of_text
from gateway.stores.redis.scripts import tuples
from gateway.stores.redis.usage_sums import (
    KEEP_SECONDS,
    groups,
    kept_entry,
    now_of,
    pack_keys,
    teams_in,
)
from gateway.stores.sums import Sums, entry_of, hour_of, merged, summed

BATCH = 1_000
"""Records that are read or written in one step."""

REMOVED_AT_ONCE = 1_000

_CHECK = b"check:"
_SMALL = (
    *(names.TEAMS, names.KEYS, names.STATES, names.ENDS),
    *(names.USES, names.ACCOUNTS, names.AUDIT, names.UNKNOWN),
)
_USAGE = (names.HOURS, names.PACKED)
_ALL = (
    *(*_SMALL, *_USAGE, names.CHANGED, names.DUE, names.CLAIMS, names.CLAIM_ENDS),
    names.UNKNOWN_AT,
)


class RedisArchive(RedisPart):
    """The ArchiveStore of one server."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._directory = directory.RedisDirectory(link)
        self._claims = claims.RedisClaims(link)

    async def export(self) -> AsyncGenerator[Sequence[ArchiveRecord], None]:
        with self.link.operations.observed("export"):
            present = int(await now_of(self.link) // HOUR_SECONDS)
            # The next hour may begin before the script runs.
            latest = (present - 1, present, present + 1)
            keys = chain(_SMALL, _USAGE, *map(_keys_of, latest))
            parts, hours, read = await self.link.call("export", [*keys])
            *parts, unknown = parts
            small = _small_records(parts)
            while batch := list(islice(small, BATCH)):
                yield batch
            # Read after the rest: an alert delivered meanwhile is then not delivered again.
            current = await self._claims.current()
            yield [archive.ClaimRecord(claim) for claim in current if claim.done]
            read_already = dict(zip(latest, read, strict=True))
            older = set(map(int, chain(*hours))) - read_already.keys()
            for hour in (*sorted(older), *latest):
                usage = read_already.get(hour) or await self.link.call("sums", _keys_of(hour))
                entries = _entries(hour, *usage)
                while batch := [archive.EntryRecord(entry) for entry in islice(entries, BATCH)]:
                    yield batch
            records = (
                archive.PurchaseRecord(purchase_of_text(text)) for _, text in tuples(unknown, 2)
            )
            while batch := list(islice(records, BATCH)):
                yield batch

    @operation("restore")
    async def restore(self, records: Iterable[ArchiveRecord]) -> None:
        await self._begin()
        try:
            await self._write_all(iter(records))
            await self.link.call("end_import", ())
        except BaseException:
            with suppress(StoreUnavailable):
                await self._remove_all()
                await self.link.call("remove", (names.META,))
            raise

    async def _begin(self) -> None:
        epoch = secrets.token_hex(16)
        keys = (names.META, names.ACCOUNTS, names.TEAMS, names.KEYS, names.AUDIT, *_USAGE)
        with explaining(self.link.place):
            await inspect(self.link)
            begun = await self.link.call_in_any_epoch("begin_import", keys, epoch, SCHEMA)
        if begun == b"held":
            raise archive.NotEmpty
        self.link.epoch = epoch
        if begun == b"again":
            await self._remove_all()

    async def _remove_all(self) -> None:
        """Remove all but `meta`. The lists of hours go last: they say which keys are left."""
        found = [int(hour) for key in _USAGE for hour in await self.link.read(key, "ZRANGE", 0, -1)]
        keys = iter([*pack_keys(found), *(key for hour in found for key in names.unpacked(hour))])
        while some := list(islice(keys, REMOVED_AT_ONCE)):
            await self.link.call("remove", some)
        await self.link.call("remove", _ALL)

    async def _write_all(self, records: Iterator[ArchiveRecord]) -> None:
        first = hour_of(await now_of(self.link) - max(KEEP_SECONDS))
        while batch := list(islice(records, BATCH)):
            write, entries = archive.directory_and_entries(batch)
            # Nothing else writes during an import, so the generation is always the present one.
            generation = await self.link.read(names.META, "HGET", "generation")
            await self._directory.commit(int(generation), write)
            for record in batch:
                await self._write(record)
            await self._write_entries(entries, first)
            unknown = [r.purchase for r in batch if isinstance(r, archive.PurchaseRecord)]
            if unknown:
                await accounts.swap(self.link, (), (), purchases=unknown, latest=0)

    async def _write(self, record: ArchiveRecord) -> None:
        match record:
            case archive.CheckRecord(check=name, value=value):
                await directory.check_value(self.link, name, value)
            case archive.ClockRecord(at=at):
                # A swap without accounts only advances the store's clock.
                await accounts.swap(self.link, (), (), latest=ceil(at * MICROSECONDS))
            case archive.UseRecord(key=id, at=at):
                await self._directory.record_use({id: at})
            case archive.AccountRecord(account=name, version=version, state=account):
                state = accounts.stamped(version, account)
                arguments = accounts.account_arguments(name, accounts.NEVER_WRITTEN, state, account)
                await accounts.swap(self.link, [arguments], (), latest=0)
            case archive.ClaimRecord(claim=claim):
                await claims.restore_claim(self.link, claim)

    async def _write_entries(self, entries: Sequence[Entry], first: int) -> None:
        """Write usage: by id from hour `first` on, where it may be written again; older as sums."""
        by_id = [entry for entry in entries if hour_of(entry.at) >= first]
        older = [entry for entry in entries if hour_of(entry.at) < first]
        if by_id:
            await accounts.swap(self.link, (), by_id, latest=0)
        if older:
            await accounts.swap(self.link, (), merged(older), latest=0, keep=(0, 0))


# -- reading an export ----------------------------------------------------------------------------


def _small_records(parts: Sequence[Sequence[bytes]]) -> Iterator[ArchiveRecord]:
    meta, teams, keys, states, ends, uses, budgets, audit = parts
    values, state_of, end_of = dict(tuples(meta, 2)), dict(tuples(states, 2)), dict(tuples(ends, 2))
    for name, value in values.items():
        if name.startswith(_CHECK):
            yield archive.CheckRecord(name.removeprefix(_CHECK).decode(), value)
    yield archive.ClockRecord(int(values.get(b"clock", 0)) / MICROSECONDS)
    for _, text in tuples(teams, 2):
        yield archive.TeamRecord(decode_team(text))
    for id, text in tuples(keys, 2):
        yield archive.KeyRecord(directory.key_of(text, state_of[id], end_of.get(id)))
    for id, at in tuples(uses, 2):
        yield archive.UseRecord(id.decode(), float(at))
    for name, state in tuples(budgets, 2):
        version, account = accounts.unstamped(state)
        yield archive.AccountRecord(name.decode(), version, account)
    yield from starmap(archive.AuditRecord, enumerate(map(directory.audit_entry_of, audit), 1))


def _entries(
    hour: int, sums: Sequence[bytes], purchases: Sequence[bytes], pack: Sequence[bytes]
) -> Iterator[Entry]:
    """Yield the usage of an hour, from fields and values in turn.

    Purchases that are still kept by id come one by one, dated by their hour. The rest of the sums
    comes as one entry for each group. Either way the totals stay the same.
    """
    rest = Sums()
    packed = (((team, *group), numbers) for team, rows in teams_in(pack) for group, numbers in rows)
    for group, numbers in chain(groups(sums), packed):
        rest.add(group, numbers)
    for id, text in tuples(purchases, 2):
        group, numbers = kept_entry(text)
        rest.subtract(group, numbers)
        yield entry_of(id.decode(), hour, group, numbers)
    yield from summed(hour, rest)


def _keys_of(hour: int) -> tuple[str, str, str]:
    """Return the keys of an hour's sums, purchases and pack."""
    return names.usage(hour), names.purchases(hour), names.hour_pack(hour)
