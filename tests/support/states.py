"""Whole states of a store as hypothesis draws them, and one that has a bit of everything."""

import random
from collections.abc import AsyncIterable, Iterable, Sequence
from itertools import starmap

from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.key_format import pepper_check
from gateway.core.model import AuditEntry, Claim, Entry, Key, Limits, Team
from gateway.core.periods import PeriodUsage, day_of, month_of
from gateway.quota.account import Account, Counters, Hold, team_account
from gateway.stores.archive_format import (
    MOST,
    AccountRecord,
    ArchiveReader,
    ArchiveRecord,
    ArchiveWriter,
    AuditRecord,
    CheckRecord,
    ClaimRecord,
    ClockRecord,
    EntryRecord,
    KeyRecord,
    TeamRecord,
    UseRecord,
)

PEPPER = b"p" * 32
NOON = 1_772_366_400.0
"""2026-03-01 12:00:00 UTC."""

names = st.text(max_size=8)
times = st.floats(0, 2**32, allow_nan=False)
numbers = st.integers(0, MOST)
amounts = st.integers(0, MOST // 6)
small = st.integers(0, 1_000)
limits = st.builds(Limits, **dict.fromkeys(Limits.__struct_fields__, st.none() | numbers))
teams = st.builds(
    Team,
    name=names,
    models=st.none() | st.lists(names, max_size=2).map(tuple),
    sizes=st.none() | st.lists(names, max_size=2).map(tuple),
    max_n=st.none() | small,
    cache=st.booleans(),
    limits=limits,
    deleted=st.booleans(),
    purged=small,
)
windows = st.builds(PeriodUsage, st.integers(0, 119_987), numbers, numbers, numbers, numbers)
minutes = st.lists(st.tuples(st.integers(0, 2**32), small), max_size=3).map(tuple)
holds = st.builds(
    Hold,
    *(times, times, names, names, names, names, numbers, numbers, st.booleans(), st.booleans()),
)
accounts = st.builds(
    Account,
    *(windows, windows, minutes),
    st.dictionaries(names, holds, max_size=3),
    st.dictionaries(names, holds, max_size=3),
    st.dictionaries(names, st.builds(Counters, windows, windows, minutes), max_size=3),
)
entries = st.builds(
    Entry,
    id=names,
    at=times,
    team=names,
    key=names,
    model=names,
    size=names,
    quality=names,
    outcome=st.sampled_from(["bought", "failed", "unknown", "cached", "coalesced", "refused"]),
    requests=small,
    images_bought=small,
    images_cached=small,
    images_unknown=small,
    cost=amounts,
    saved=amounts,
    images_coalesced=small,
    requests_refused=small,
)
listings = st.none() | st.dictionaries(
    names, st.none() | st.booleans() | small | names | st.dictionaries(names, names, max_size=2)
)
changes = st.builds(
    AuditEntry,
    at=times,
    who=names,
    action=names,
    team=st.none() | names,
    key=st.none() | names,
    before=listings,
    after=listings,
)
claims = st.builds(
    Claim,
    name=names,
    owner=names,
    ends=st.integers(2**32 + 1, 2**33).map(float),
    done=st.just(True),
    note=st.binary(max_size=20),
)


def keys(of: Sequence[Team]) -> st.SearchStrategy[Key]:
    """A key of one of these teams."""
    return st.builds(
        Key,
        id=names,
        team=st.sampled_from([team.name for team in of]),
        name=names,
        digest=st.binary(min_size=32, max_size=32),
        created=times,
        expires=st.none() | times,
        state=st.sampled_from(["active", "disabled", "revoked"]),
        limits=limits,
        first=st.none() | names,
        grace_ends=st.none() | times,
    )


@st.composite
def states(draw: st.DrawFn) -> list[ArchiveRecord]:
    """All records of a store, in an archive's order, those of each kind by name."""
    some_teams = draw(st.lists(teams, max_size=3, unique_by=lambda team: team.name))
    some_keys = (
        draw(st.lists(keys(some_teams), max_size=3, unique_by=lambda key: key.id))
        if some_teams
        else []
    )
    some_entries = draw(st.lists(entries, max_size=6, unique_by=lambda entry: entry.id))
    return [
        CheckRecord("pepper", pepper_check(PEPPER)),
        ClockRecord(draw(times)),
        *(TeamRecord(team) for team in sorted(some_teams, key=lambda team: team.name)),
        *(KeyRecord(key) for key in sorted(some_keys, key=lambda key: key.id)),
        *(UseRecord(*use) for use in sorted(draw(st.dictionaries(names, times)).items())),
        *(
            AccountRecord(name, version, account)
            for name, (version, account) in sorted(
                draw(
                    st.dictionaries(names, st.tuples(st.integers(1, 2**31), accounts), max_size=3)
                ).items()
            )
        ),
        *logged(draw(st.lists(changes, max_size=4))),
        *(
            ClaimRecord(claim)
            for claim in sorted(
                draw(st.lists(claims, max_size=3, unique_by=lambda claim: claim.name)),
                key=lambda claim: claim.name,
            )
        ),
        *(EntryRecord(entry) for entry in sorted(some_entries, key=lambda entry: entry.id)),
    ]


def logged(changes: Iterable[AuditEntry]) -> Iterable[ArchiveRecord]:
    """The log's records, by time."""
    return starmap(AuditRecord, enumerate(sorted(changes, key=lambda change: change.at), 1))


def by_name(records: Iterable[ArchiveRecord]) -> list[ArchiveRecord]:
    """The records with each kind's in the order of their names."""
    kept: dict[str, list[ArchiveRecord]] = {}
    for record in records:
        kept.setdefault(record.kind(), []).append(record)
    return [record for kind in kept.values() for record in sorted(kind, key=lambda r: r.name)]


async def gathered(batches: AsyncIterable[Sequence[ArchiveRecord]]) -> list[ArchiveRecord]:
    """All records of an export."""
    return [record async for batch in batches for record in batch]


def archived(records: Iterable[ArchiveRecord]) -> bytes:
    """An archive of these."""
    writer = ArchiveWriter()
    return writer.header(made=NOON, gateway="1.0") + writer.lines(records) + writer.footer()


def read(archive: bytes) -> list[ArchiveRecord]:
    """What an archive has. Raises NotRestored."""
    return list(ArchiveReader(archive.splitlines(keepends=True)))


# -- a bit of everything ------------------------------------------------------------------------

RED = Team(name="red", models=("gpt-image-2",), max_n=4, limits=Limits(images_per_day=100))
BLUE = Team(name="ünï", cache=False, purged=3)
GONE = Team(name="gone", deleted=True, limits=Limits(images_per_day=1))
FIRST = Key(id="k1", team="red", name="Shop", digest=bytes(range(32)), created=NOON - 0.1)
ROTATED = replace(FIRST, grace_ends=NOON + 86_400.25)
SECOND = replace(FIRST, id="k2", digest=b"\1" * 32, created=NOON + 1 / 3, first="k1")
REVOKED = Key(
    id="k3",
    team="ünï",
    name="",
    digest=b"\2" * 32,
    created=NOON,
    state="revoked",
    limits=Limits(cost_per_month=MOST),
)
_HOLD = Hold(NOON, NOON + 305, "k1", "gpt-image-2", "1024x1024", "high", 1, 211_000, True, True)
_DAY, _MONTH = (
    PeriodUsage(day_of(NOON), 7, MOST, 1, 211_000),
    PeriodUsage(month_of(NOON), 9, MOST - 4),
)
BUSY = Account(
    _DAY,
    _MONTH,
    ((int(NOON), 3),),
    holds={"open": _HOLD},
    swept={"swept": replace(_HOLD, at=NOON - 500)},
    keys={"k1": Counters(_DAY, _MONTH, ((int(NOON), 1),))},
)
CREATED = AuditEntry(
    at=NOON - 90.5,
    who="command line as Ünï",
    action="team.create",
    team="red",
    after={"max_n": 4, "limits": {"cost_per_day_usd": "0.5"}},
)
DELETED = replace(CREATED, team="gone", action="team.delete", before=CREATED.after, after=None)
PURGED = AuditEntry(at=NOON, who="admin token ops", action="cache.purge", team="ünï")
LOG = [CREATED, DELETED, PURGED, PURGED]


def history(count: int, now: float = NOON) -> list[Entry]:
    """Entries of several teams, keys and models over 40 days before `now`."""
    chance = random.Random(count)
    return [_entry(f"{number:032x}", chance, now) for number in range(count)]


def _entry(id: str, chance: random.Random, now: float) -> Entry:
    bought = chance.random() < 0.5
    images = chance.randrange(1, 5)
    return Entry(
        id=id,
        at=now - chance.random() * 40 * 86_400,
        team=chance.choice(["red", "ünï"]),
        key=chance.choice(["k1", "k3"]),
        model=chance.choice(["gpt-image-2", "other"]),
        size="1024x1024",
        quality=chance.choice(["low", "high"]),
        outcome="bought" if bought else "cached",
        requests=1 if bought else chance.randrange(1, 9),
        images_bought=images if bought else 0,
        images_cached=0 if bought else images,
        cost=images * 53_000 if bought else 0,
        saved=0 if bought else images * 53_000,
    )


def state(entries: Sequence[Entry] = ()) -> list[ArchiveRecord]:
    """Teams, one of them deleted, a rotated key's line, a revoked key, uses, accounts with holds,
    a log of changes, and this history.
    """
    return [
        CheckRecord("pepper", pepper_check(PEPPER)),
        ClockRecord(NOON + 0.1),
        TeamRecord(RED),
        TeamRecord(GONE),
        TeamRecord(BLUE),
        KeyRecord(ROTATED),
        KeyRecord(SECOND),
        KeyRecord(REVOKED),
        UseRecord("k1", NOON - 60.5),
        UseRecord("k3", NOON - 1 / 7),
        AccountRecord("gateway", 41, Account(_DAY, _MONTH)),
        AccountRecord(team_account("red"), 17, BUSY),
        AccountRecord(team_account("ünï"), 1, Account()),
        *logged(LOG),
        *(EntryRecord(entry) for entry in entries),
    ]
