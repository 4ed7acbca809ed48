"""A store that moves through an archive into another one keeps budgets, keys and usage."""

import asyncio
import io
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given, settings

from gateway.core.model import Team
from gateway.core.periods import DAY_SECONDS
from gateway.stores.archive import Archive, export_store, new_file
from gateway.stores.archive_format import (
    ArchiveRecord,
    CheckRecord,
    ClockRecord,
    EntryRecord,
    TeamRecord,
)
from gateway.tenants.changes import OperationError
from tests.conformance.store import entry, refund, unknown
from tests.conformance.test_archive import restore, usages
from tests.support.states import PEPPER, archived, by_name, gathered, state, states
from tests.support.stores import ONE_SERVER, Places


@given(states())
@settings(max_examples=20, suppress_health_check=ONE_SERVER)
def test_any_state_comes_back_over_redis_as_it_was(
    places: Places, records: list[ArchiveRecord]
) -> None:
    asyncio.run(_comes_back(places, records))


async def _comes_back(places: Places, records: list[ArchiveRecord]) -> None:
    make_first, make_second, file = places.new("sqlite"), places.new("redis"), io.BytesIO()
    await restore(make_first, records)
    async with make_first() as first:
        assert by_name(await gathered(first.archive.export())) == records
        counts = await export_store(first.archive, file.write, time.time())
        file.seek(0)
        second = make_second()
        assert await Archive(file, PEPPER).restore(second.archive) == counts
        exported = await gathered(second.archive.export())
        assert lasting(by_name(exported)) == lasting(records)
        assert await usages(second) == await usages(first)
        await second.close()


def lasting(records: list[ArchiveRecord]) -> list[ArchiveRecord]:
    """Return all records but the clock, which goes on, and usage, which Redis sums up."""
    return [record for record in records if not isinstance(record, ClockRecord | EntryRecord)]


@pytest.mark.parametrize("kinds", [("redis", "sqlite"), ("sqlite", "redis")])
@pytest.mark.parametrize("days", [0, 5, 20])
async def test_unknown_purchases_are_settled_and_refunded_after_a_move(
    places: Places, kinds: tuple[str, str], days: int
) -> None:
    at = time.time() - 100 - days * DAY_SECONDS
    make_first, make_second = map(places.new, kinds)
    async with make_first() as first:
        written = [unknown(id, at=at) for id in "abcd"]
        assert await first.accounts.swap([], written)
        assert await first.accounts.swap([], [refund("d", at=at)])
        while await first.usage.tidy(time.time(), None):
            pass
        await restore(make_second, await gathered(first.archive.export()))
    async with make_second() as second:
        assert await second.purchases.find("d") == refund("d", at=at).purchase
        assert await second.accounts.swap([], [refund("a", at=at)])
        if not days:  # an outcome comes within a day
            assert await second.accounts.swap([], [entry("b", at=at)])
        rows = await second.usage.report(("outcome",), None, None)
        assert {row.group[0]: (row.requests, row.cost) for row in rows} == {
            "failed": (2, 0),
            **({"unknown": (2, 20)} if days else {"unknown": (1, 10), "bought": (1, 5)}),
        }
        entries = [
            record.entry
            for record in await gathered(second.archive.export())
            if isinstance(record, EntryRecord)
        ]
        assert sum(each.cost for each in entries) == sum(row.cost for row in rows)
        assert all(each.requests > 0 for each in entries)


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("archive", "cause"),
    [
        (archived(state()), "The archive's keys were made with another pepper"),
        (archived([]), "The archive does not say which pepper"),
        (archived([TeamRecord(Team(name="a"))]), "The archive does not say which pepper"),
        (archived([CheckRecord("other", b"x")]), "The archive does not say which pepper"),
        (b"{}\n", "This is not an archive of a gateway's store."),
    ],
    ids=["other", "empty", "none", "check", "file"],
)
def test_an_archive_that_does_not_fit_is_refused_before_any_store_is_used(
    archive: bytes, cause: str
) -> None:
    with pytest.raises(OperationError, match=cause):
        Archive(io.BytesIO(archive), b"q" * 32)


# -- files --------------------------------------------------------------------------------------


def write_half(path: Path, failure: type[BaseException]) -> None:
    with new_file(path) as file:
        file.write(b"half")
        raise failure


def test_a_new_file_has_mode_0600_and_appears_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for failure in (KeyboardInterrupt, OSError):
        with pytest.raises(failure):
            write_half(path, failure)
    assert list(tmp_path.iterdir()) == []
    path.write_text("former")
    with new_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "former"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
