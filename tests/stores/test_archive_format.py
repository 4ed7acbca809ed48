"""Archives are read as they were written, and anything else is refused."""

import hashlib
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, month_of
from gateway.quota.account import Account
from gateway.stores.archive import summary
from gateway.stores.archive_format import (
    END_OF_TIME,
    LINE_BYTES,
    MOST,
    AccountRecord,
    ArchiveReader,
    AuditRecord,
    ClockRecord,
    EntryRecord,
    KeyRecord,
    NotRestored,
    TeamRecord,
)
from tests.support.states import BUSY, CREATED, KEY, RED, archived, history, read, state

STATE = state(history(3))
ARCHIVE = archived(STATE)
LINES = ARCHIVE.splitlines(keepends=True)
ENTRY = replace(history(1)[0], outcome="bought", cost=53_000)


def refusal(archive: bytes) -> str:
    """Return why the reader refuses it."""
    with pytest.raises(NotRestored) as refused:
        read(archive)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_counts_are_returned() -> None:
    reader = ArchiveReader(LINES)
    assert len(list(reader)) == len(STATE)
    assert reader.counts["key"] == 3
    assert summary(reader.counts) == (
        "3 teams, 3 keys, 3 accounts, 4 audit entries, 3 usage entries"
    )
    assert summary({"team": 1, "entry": 12_000}) == (
        "1 team, 0 keys, 0 accounts, 0 audit entries, 12,000 usage entries"
    )


def test_every_line_is_json_with_its_kind() -> None:
    kinds = [msgspec.json.decode(line)["kind"] for line in LINES]
    assert list(dict.fromkeys(kinds)) == [
        *("header", "check", "clock", "team", "key", "use", "account"),
        *("change", "entry", "footer"),
    ]


def test_money_is_exact_and_times_come_back_as_they_were() -> None:
    assert b"9007199254740991" in ARCHIVE
    assert repr(1_772_366_400.0 + 1 / 3).encode() in ARCHIVE


# -- damage -------------------------------------------------------------------------------------


def test_an_archive_that_was_cut_off_is_refused_wherever_it_was() -> None:
    for length in range(0, len(ARCHIVE), 29):
        assert refusal(ARCHIVE[:length]).startswith(("The archive is cut off", "The archive is e"))
    for number in range(1, len(LINES)):
        why = refusal(b"".join(LINES[:number]))
        assert why == f"The archive is cut off: it ends after line {number}."


@given(st.integers(0, len(ARCHIVE) - 1), st.integers(1, 255))
@settings(max_examples=100)
def test_a_byte_that_was_changed_is_found_wherever_it_is(place: int, change: int) -> None:
    damaged = bytearray(ARCHIVE)
    damaged[place] ^= change
    refusal(bytes(damaged))


def test_lines_that_went_missing_changed_places_or_came_twice_are_found() -> None:
    for number in range(1, len(LINES) - 1):
        refusal(b"".join(LINES[:number] + LINES[number + 1 :]))
        refusal(b"".join([*LINES[:number], LINES[number], *LINES[number:]]))
        refusal(
            b"".join([*LINES[:number], *LINES[number : number + 2][::-1], *LINES[number + 2 :]])
        )
    assert refusal(ARCHIVE + LINES[-1]) == (
        f"There is more after line {len(LINES)}, the archive's last."
    )
    assert refusal(ARCHIVE + b"\n").startswith("There is more after line")


def test_a_damaged_line_is_named() -> None:
    for line in (b"{}\n", b"\n", b"\xff\n", b"[1]\n", b'{"kind":"team"}\n', b'{"kind":"key",\n'):
        lines = [*LINES[:4], line, *LINES[5:]]
        assert refusal(b"".join(lines)).startswith("Line 5 is damaged or unknown: ")


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        (b'"version":17', b'"version":0'),
        (b'"version":17', b'"version":"17"'),
        (b'"version":17', b'"version":17.5'),
        (b'"version":17', b'"version":17,"more":1'),
        (b'"cost":53000', b'"cost":53000.5'),
        (b'"state":"revoked"', b'"state":"gone"'),
        (b'"kind":"use"', b'"kind":"us\\ne"'),
    ],
)
def test_an_invalid_line_is_refused_by_its_number(part: bytes, damage: bytes) -> None:
    lines = archived(state([ENTRY])).splitlines(keepends=True)
    place = next(place for place, line in enumerate(lines) if part in line)
    lines[place] = lines[place].replace(part, damage)
    why = refusal(b"".join(lines))
    assert why.startswith(f"Line {place + 1} is damaged or unknown: ")


# -- contradictions ---------------------------------------------------------------------


def test_records_out_of_order_are_refused() -> None:
    kinds = {record.kind(): record for record in STATE}
    for former, latter in (("team", "key"), ("key", "account"), ("account", "change")):
        why = refusal(archived([kinds["team"], kinds[latter], kinds[former]]))
        assert why == f"Line 4 is out of order: {former}."


def test_a_record_that_comes_twice_is_refused() -> None:
    for record in STATE:
        if record.kind() not in ("entry", "key"):
            assert refusal(archived([record, record])) == (
                f"Line 3 repeats an earlier line: {record.kind()}."
            )


def test_a_key_needs_its_team() -> None:
    without = [record for record in STATE if record.kind() != "team"]
    assert refusal(archived(without)) == "Line 4 has a key whose team does not exist."


# -- impossible values --------------------------------------------------------------------------

(BOUGHT,) = history(1)
(HOLD,) = BUSY.holds.values()
(SWEPT,) = BUSY.swept.values()
(KEYED,) = BUSY.keys.values()
LONG = "x" * 1_001


def account(**fields: Any) -> AccountRecord:
    return AccountRecord("team:red", 1, replace(BUSY, **fields))


CASES = {
    "more": (EntryRecord(replace(BOUGHT, saved=MOST + 1)), "saved is not between"),
    "negative": (EntryRecord(replace(BOUGHT, images_bought=-1)), "images_bought is not between"),
    "name": (EntryRecord(replace(BOUGHT, model=LONG)), "model is too long"),
    "before": (ClockRecord(-0.1), "at is not a time"),
    "after": (ClockRecord(END_OF_TIME), "at is not a time"),
    "digest": (KeyRecord(replace(KEY, digest=b"x" * 1_001)), "digest is too long"),
    "grace": (KeyRecord(replace(KEY, grace_ends=-1.0)), "grace_ends is not a time"),
    "limit": (TeamRecord(replace(RED, limits=Limits(cost_per_day=-1))), "cost_per_day is not"),
    "sizes": (TeamRecord(replace(RED, sizes=("1x1", LONG))), "sizes is too long"),
    "version": (AccountRecord("a", 2**64, Account()), "version is not between"),
    "window": (account(day=PeriodUsage(1, 2, 10**30)), "cost is not between"),
    "minute": (account(minute=((1, -1),)), "minute is not between"),
    "day": (account(day=PeriodUsage(day_of(END_OF_TIME))), "state counts a time"),
    "month": (account(month=PeriodUsage(month_of(END_OF_TIME - 1) + 1)), "state counts a time"),
    "second": (account(minute=((int(END_OF_TIME), 1),)), "state counts a time"),
    "key's day": (account(keys={"k": replace(KEYED, day=PeriodUsage(MOST))}), "keys counts a time"),
    "hold": (account(holds={"h": replace(HOLD, images=-1)}), "images is not between"),
    "hold's name": (account(holds={LONG: HOLD}), "holds is too long"),
    "swept": (account(swept={"h": replace(SWEPT, lease=END_OF_TIME)}), "lease is not a time"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_impossible_value_is_refused_by_its_line(case: str) -> None:
    record, cause = CASES[case]
    teams = [TeamRecord(RED)] if isinstance(record, KeyRecord) else []
    why = refusal(archived([*teams, record]))
    assert re.match(rf"Line [23] has an impossible value: {re.escape(cause)}", why)


def test_an_audit_entry_may_hold_any_value() -> None:
    audit = AuditRecord(1, replace(CREATED, after={"any": [-1.5, LONG]}))
    assert read(archived([audit])) == [audit]


def test_a_history_that_adds_up_to_too_much_is_refused() -> None:
    entries = [EntryRecord(replace(ENTRY, id=id, cost=MOST // 2)) for id in ("a", "b", "c")]
    assert read(archived(entries[:2])) == entries[:2]
    why = "Line 4 has an impossible value: cost is too much together with the entries before."
    assert refusal(archived(entries)) == why


# -- other files --------------------------------------------------------------------------------


def test_other_files_are_no_archives() -> None:
    assert refusal(b"") == "The archive is empty."
    for text in (b"\x89PNG\r\n", b"{}\n", b'{"format":"gateway-archive"}\n', LINES[1]):
        assert refusal(text) == "This is not an archive of a gateway's store."
    assert refusal(b"x" * LINE_BYTES) == "Line 1 is too long for an archive."


def test_an_archive_of_a_later_version_is_refused() -> None:
    header = b'{"kind":"header","format":"gateway-archive","version":6,"new":[]}\n'
    assert refusal(header + b"anything\n") == (
        "The archive has version 6, and this gateway knows versions up to 5: import it with the "
        "gateway that made it, or a newer one."
    )


def test_an_archive_of_an_older_gateway_is_read() -> None:
    lines = [LINES[0].replace(b'"version":5', b'"version":3'), *LINES[1:-1]]
    assert lines[0] != LINES[0]
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    footer = msgspec.json.decode(LINES[-1]) | {"sha256": digest}
    assert read(b"".join(lines) + msgspec.json.encode(footer) + b"\n") == STATE
