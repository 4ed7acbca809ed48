"""What an archive may say of each kind, and what cannot be, wherever in it."""

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, month_of
from gateway.quota.account import Account
from gateway.stores.archive_format import (
    END_OF_TIME,
    MOST,
    AccountRecord,
    ArchiveRecord,
    AuditRecord,
    CheckRecord,
    ClockRecord,
    EntryRecord,
    KeyRecord,
    TeamRecord,
    UseRecord,
    fault,
)
from tests.support.states import BUSY, CREATED, FIRST, RED, history, states

(ENTRY,) = history(1)
(HOLD,) = BUSY.holds.values()
(SWEPT,) = BUSY.swept.values()
(KEYED,) = BUSY.keys.values()
LONG = "x" * 1_001
LATE = replace(CREATED, after={"any": [10**30, -1.5, LONG]})


@given(states())
def test_what_stores_hold_can_be(records: list[ArchiveRecord]) -> None:
    assert [fault(record, record.kind()) for record in records] == [None] * len(records)


def test_what_was_before_and_after_may_be_anything() -> None:
    assert fault(AuditRecord(1, LATE), "change") is None


def account(**fields: Any) -> AccountRecord:
    return AccountRecord("team:red", 1, replace(BUSY, **fields))


CASES = {
    "more": (EntryRecord(replace(ENTRY, saved=MOST + 1)), "saved is not between"),
    "absurd": (EntryRecord(replace(ENTRY, requests=10**30)), "requests is not between"),
    "negative": (EntryRecord(replace(ENTRY, images_bought=-1)), "images_bought is not between"),
    "name": (EntryRecord(replace(ENTRY, model=LONG)), "model is too long"),
    "not a time": (EntryRecord(replace(ENTRY, at=nan)), "at is not a time"),
    "never": (UseRecord("k1", inf), "at is not a time"),
    "before": (ClockRecord(-0.1), "at is not a time"),
    "after": (ClockRecord(END_OF_TIME), "at is not a time"),
    "digest": (KeyRecord(replace(FIRST, digest=b"x" * 1_001)), "digest is too long"),
    "grace": (KeyRecord(replace(FIRST, grace_ends=-1.0)), "grace_ends is not a time"),
    "limit": (TeamRecord(replace(RED, limits=Limits(cost_per_day=-1))), "cost_per_day is not"),
    "sizes": (TeamRecord(replace(RED, sizes=("1x1", LONG))), "sizes is too long"),
    "check": (CheckRecord("pepper", b"x" * 1_001), "value is too long"),
    "who": (AuditRecord(1, replace(CREATED, who=LONG)), "who is too long"),
    "version": (AccountRecord("a", 2**64, Account()), "version is not between"),
    "window": (account(day=PeriodUsage(1, 2, 10**30)), "cost is not between"),
    "held": (account(month=PeriodUsage(1, 2, 3, -4)), "held_images is not between"),
    "minute": (account(minute=((1, -1),)), "minute is not between"),
    "day": (account(day=PeriodUsage(day_of(END_OF_TIME))), "state counts a time"),
    "month": (account(month=PeriodUsage(month_of(END_OF_TIME - 1) + 1)), "state counts a time"),
    "second": (account(minute=((int(END_OF_TIME), 1),)), "state counts a time"),
    "key's day": (account(keys={"k": replace(KEYED, day=PeriodUsage(MOST))}), "keys counts a time"),
    "hold": (account(holds={"h": replace(HOLD, images=-1)}), "images is not between"),
    "hold's name": (account(holds={LONG: HOLD}), "holds is too long"),
    "swept": (account(swept={"h": replace(SWEPT, lease=inf)}), "lease is not a time"),
    "key": (account(keys={"k": replace(KEYED, day=PeriodUsage(-1))}), "period is not between"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_is_told(case: str) -> None:
    record, cause = CASES[case]
    assert (fault(record, record.kind()) or "").startswith(cause)
