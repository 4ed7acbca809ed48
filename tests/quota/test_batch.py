"""A batch of steps, decided without a store."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import InternalError
from gateway.core.model import Limits
from gateway.quota.account import EMPTY, GATEWAY, Account, team_account
from gateway.quota.batch import Books, Pending, decide
from gateway.quota.operations import NONE, Operation, Operations
from gateway.quota.step import Step
from gateway.quota.steps import Denied, Held, Leave
from gateway.quota.store import Change, Loaded, RecordChange
from tests.support.quota_steps import NOON, reserve, settle, wish

RED, BLUE = team_account("red"), team_account("blue")
ONE = Limits(images_per_day=1)
RUNNING = Operations((Operation(id="first", request="r", gateway="here", at=NOON, lease=NOON),))


def books(**records: Operations) -> Books:
    """Two accounts with the versions 7 and 8, and records with the stamps a, b, ..."""
    stamps = [bytes([letter]) for letter in b"abc"]
    kept = list(zip(records.values(), stamps, strict=False))
    return Books([RED, BLUE], list(records), Loaded([(EMPTY, 7), (EMPTY, 8)], NOON, kept))


def pending(*steps: Step[Any]) -> list[Pending[Any]]:
    return [Pending(step) for step in steps]


async def test_each_step_is_applied_to_the_result_of_the_former() -> None:
    first = books()
    reservations = [reserve("r1", limits=ONE), reserve("r2", limits=ONE), reserve("r3")]
    batch = pending(*reservations, settle("r1"), settle("r3"))
    decided, changed, entries = decide(batch, first)
    assert [each for each, _ in decided] == batch
    assert [type(applied.outcome) for _, applied in decided[:3]] == [Held, Denied, Held]
    assert changed == {RED}
    assert [(entry.id, entry.images_bought) for entry in entries] == [("r1", 1), ("r3", 1)]
    assert first.accounts[RED].day.images == 2
    assert first.accounts[BLUE] is EMPTY


async def test_a_step_waits_since_it_was_submitted() -> None:
    now = asyncio.get_running_loop().time
    before = now()
    assert before <= Pending(reserve()).since <= now()


async def test_a_step_whose_caller_gave_up_is_left_out() -> None:
    batch = pending(*(reserve(id, limits=ONE) for id in ("r1", "r2")))
    batch[0].outcome.cancel()
    decided, _, _ = decide(batch, books())
    assert [(each, type(applied.outcome)) for each, applied in decided] == [(batch[1], Held)]


class Broken(Leave, frozen=True, kw_only=True):
    """A step with a defect."""

    def apply(self, *books: object) -> Any:
        raise ZeroDivisionError


async def test_a_defect_in_one_step_is_logged_and_stops_no_other() -> None:
    batch = pending(Broken(record="a", id="r0"), reserve("r1"))
    with capture_logs() as lines:
        decided, changed, _ = decide(batch, books())
    assert [(line["event"], line["step"]) for line in lines] == [("step failed", "Broken")]
    assert [each for each, _ in decided] == batch[1:]
    assert changed == {RED}
    with pytest.raises(InternalError):
        batch[0].outcome.result()


async def test_what_changed_is_written_over_the_version_that_was_loaded() -> None:
    both = books(waits=RUNNING, other=RUNNING)
    step = reserve("r1", "blue", wish=wish(name="new"))
    _, changed, _ = decide(pending(Leave(record="other", id="first"), step), both)
    assert changed == {BLUE, "other", "new"}
    accounts, records = both.changes(changed)
    assert accounts == [Change(BLUE, 8, both.accounts[BLUE])]
    assert list(both.accounts[BLUE].holds) == ["r1"]
    assert records == [RecordChange("other", b"b", both.records["other"])]
    assert both.records["other"].all[0].left
    assert both.changes([GATEWAY]) == ([], [])
    everything = both.changes([RED, BLUE, "waits", "other"])
    assert [change.version for change in everything[0]] == [7, 8]
    assert [record.stamp for record in everything[1]] == [b"a", b"b"]


async def test_books_have_an_account_and_a_record_for_each_name() -> None:
    for accounts, records in ([(Account(), 1)], []), ([], [(NONE, b"")]):
        with pytest.raises(ValueError, match="zip"):
            Books([], [], Loaded(accounts, NOON, records))
