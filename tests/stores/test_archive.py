"""A store that moves through an archive into another one keeps budgets, keys and usage."""

import asyncio
import io
import random
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings

from gateway.core.key_format import pepper_check
from gateway.core.model import NO_LIMITS, Limits, Team
from gateway.quota.ledger import Ledger
from gateway.quota.steps import Held
from gateway.stores.archive import Archive, export_store, new_file
from gateway.stores.archive_format import (
    ArchiveRecord,
    CheckRecord,
    ClockRecord,
    EntryRecord,
    TeamRecord,
)
from gateway.stores.port import Store
from gateway.tenants.changes import OperationError
from tests.conformance.test_archive import restore, usages
from tests.support.directory import put_teams
from tests.support.quota_steps import release, reserve, settle
from tests.support.states import PEPPER, archived, by_name, gathered, read, state, states
from tests.support.stores import ONE_SERVER, Places

LIMITS = Limits(images_per_day=10, cost_per_month=2_000_000, concurrent_requests=3)
KEY_LIMITS = Limits(images_per_month=6)


async def moved(source: Store, target: Store) -> None:
    """Export the source into an archive, and import that into the target."""
    file = io.BytesIO()
    exported = await export_store(source.archive, file.write, time.time())
    file.seek(0)
    try:
        assert await Archive(file, PEPPER).restore(target.archive) == exported
    finally:
        await target.close()


@asynccontextmanager
async def ledger_over(store: Store) -> AsyncIterator[Ledger]:
    ledger = Ledger(store.accounts, spread=random.random)
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close(5)


async def admitted(ledger: Ledger, id: str, key: str, limits: Limits = NO_LIMITS) -> bool:
    """Whether an image is admitted by the team's limits and those of the key's line."""
    step = reserve(id, key=key, limits=LIMITS, key_limits=limits)
    return isinstance(await ledger.reserve(step), Held)


@pytest.mark.parametrize(("source", "target"), [("sqlite", "redis"), ("redis", "sqlite")])
async def test_budgets_run_out_exactly_as_without_the_move(
    places: Places, source: str, target: str
) -> None:
    make_target = places.new(target)
    async with places.new(source)() as store, ledger_over(store) as ledger:
        assert await store.check_value("pepper", pepper_check(PEPPER))
        await put_teams(store.directory, [Team(name="red", limits=LIMITS)])
        for number in range(3):
            assert await admitted(ledger, f"bought-{number}", "k1", KEY_LIMITS)
            await ledger.finish(settle(f"bought-{number}"))
        assert await admitted(ledger, "failed", "k1", KEY_LIMITS)
        await ledger.finish(release("failed"))
        for id in ("open", "lost"):
            assert await admitted(ledger, id, "k1", KEY_LIMITS)
        await moved(store, make_target())
    async with make_target() as store, ledger_over(store) as ledger:
        # Two holds are open, of three; the line has had 5 of its 6 images, the team 5 of 10.
        assert await admitted(ledger, "third", "k2")
        assert not await admitted(ledger, "fourth", "k2")
        await ledger.finish(settle("third"))
        await ledger.finish(settle("open"))
        assert await admitted(ledger, "line-6", "k1", KEY_LIMITS)
        await ledger.finish(settle("line-6"))
        assert not await admitted(ledger, "line-7", "k1", KEY_LIMITS)
        for number in range(3):
            assert await admitted(ledger, f"more-{number}", "k2")
            await ledger.finish(settle(f"more-{number}"))
        assert not await admitted(ledger, "eleventh", "k2")
        (row,) = await store.usage.report([], None, None)
        assert (row.images_bought, row.cost) == (9, 9 * 40_000)


@given(states())
@settings(max_examples=20, suppress_health_check=ONE_SERVER)
def test_any_state_comes_back_over_redis_as_it_was(
    places: Places, records: list[ArchiveRecord]
) -> None:
    assert read(archived(records)) == records
    asyncio.run(_comes_back(places, records))


async def _comes_back(places: Places, records: list[ArchiveRecord]) -> None:
    make_first, make_second = map(places.new, ("sqlite", "redis"))
    await restore(make_first, records)
    async with make_first() as first:
        exported = await gathered(first.archive.export())
        assert by_name(exported) == records
        await restore(make_second, exported)
        async with make_second() as second:
            assert lasting(await gathered(second.archive.export())) == lasting(records)
            assert await usages(second) == await usages(first)


def lasting(records: list[ArchiveRecord]) -> list[ArchiveRecord]:
    """Return all records but the clock, which goes on, and usage, which Redis sums up."""
    return by_name(r for r in records if not isinstance(r, ClockRecord | EntryRecord))


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
