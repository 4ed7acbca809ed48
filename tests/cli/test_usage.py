"""`gateway usage`, and `gateway usage compare`: an invoice against recorded costs."""

import asyncio
import csv
import json
import time
from datetime import UTC, datetime
from io import StringIO
from itertools import count

import pytest

from gateway.core.key_format import parse
from gateway.core.model import Entry, EntryOutcome
from gateway.stores.sqlite import SqliteStore
from tests.support.line import Line

DAY = 86_400.0
_numbers = count()


def spend(line: Line, *purchases: tuple[float, str, int]) -> None:
    """Enter bought images into the store: when, with which key, and the micro-dollars."""
    record(line, [entry(at, cost, key=key, images_bought=1) for at, key, cost in purchases])


def entry(
    at: float,
    cost: int,
    outcome: EntryOutcome = "bought",
    *,
    key: str = "k1",
    images_bought: int = 0,
) -> Entry:
    """A usage entry of the team design."""
    return Entry(
        id=str(next(_numbers)),
        at=at,
        team="design",
        key=key,
        model="gpt-image-2",
        size="auto",
        quality="auto",
        outcome=outcome,
        images_bought=images_bought,
        cost=cost,
    )


def record(line: Line, entries: list[Entry]) -> None:
    """Enter usage into the store."""

    async def write() -> None:
        async with SqliteStore(line.folder / "data" / "my.db") as store:
            await store.accounts.record(entries)

    asyncio.run(write())


def test_usage_is_summed_since_the_month_began(filled: Line) -> None:
    now = time.time()
    spend(filled, (now, "0123456789ab", 211_000), (now, "0123456789ac", 53_000))
    spend(filled, (now - 32 * DAY, "0123456789ab", 1_000_000))
    by_team = json.loads(filled.click("usage", "--format", "json").stdout)
    assert by_team == [
        {
            "team": "design",
            "requests": 2,
            "requests_refused": 0,
            "images_bought": 2,
            "images_cached": 0,
            "images_coalesced": 0,
            "images_unknown": 0,
            "cost_usd": "0.264",
            "saved_usd": "0",
        }
    ]
    by_key = json.loads(filled.click("usage", "--by", "key", "--format", "json").stdout)
    assert [(row["key"], row["cost_usd"]) for row in by_key] == [
        ("sk-gw-0123456789ab", "0.211"),
        ("sk-gw-0123456789ac", "0.053"),
    ]
    assert filled.click("usage", "--by", "model").stdout.splitlines()[1].startswith("gpt-image-2")
    total = filled.click("usage", "--by", "key", "--by", "day").stdout.splitlines()[-1]
    assert total.split() == ["total", "2", "0", "2", "0", "0", "0", "0.264", "0.00"]


def test_a_table_of_usage_by_key_has_the_keys_names(filled: Line) -> None:
    create = ("keys", "create", "--team", "design", "--name", "Web shop")
    id = parse(filled.click(*create).stdout.strip()) or ""
    spend(filled, (time.time(), id, 40_000), (time.time(), "0123456789ab", 40_000))
    titles, *rows, total = filled.click("usage", "--by", "key").stdout.splitlines()
    assert titles.split()[:2] == ["key", "name"]
    assert sorted(row.startswith(f"sk-gw-{id}  Web shop  ") for row in rows) == [False, True]
    assert total.split()[:2] == ["total", "2"]
    listed = json.loads(filled.click("usage", "--by", "key", "--format", "json").stdout)
    assert all("name" not in row for row in listed)


def test_usage_can_be_grouped_and_bounded(filled: Line) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    keys = ("0123456789ab", "0123456789ac", "0123456789ab")
    spend(filled, *((noon + day * DAY, key, 40_000) for day, key in enumerate(keys)))
    grouped = filled.click(
        *("usage", "--by", "day", "--by", "key", "--by", "day", "--format", "csv"),
        *("--from", "2026-03-01", "--to", "2026-03-02"),
    )
    assert grouped.stdout.splitlines() == [
        "day,key,requests,requests_refused,images_bought,images_cached,images_coalesced,"
        "images_unknown,cost_usd,saved_usd",
        "2026-03-01,sk-gw-0123456789ab,1,0,1,0,0,0,0.04,0",
        "2026-03-02,sk-gw-0123456789ac,1,0,1,0,0,0,0.04,0",
    ]
    fine = ("--by", "hour", "--by", "size", "--by", "quality", "--by", "outcome")
    by_all = filled.click("usage", *fine, "--from", "2026-03-01", "--format", "csv")
    assert by_all.stdout.splitlines()[1].startswith("2026-03-01T12:00:00Z,auto,auto,bought,1,")
    bounded = ("usage", "--from", "2026-03-02", "--format", "json")
    assert json.loads(filled.click(*bounded).stdout)[0]["requests"] == 2
    assert json.loads(filled.click(*bounded, "--team", "research").stdout) == []
    assert filled.click(*bounded, "--team", "design").stdout == filled.click(*bounded).stdout


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--from", "yesterday"), "must be a day, written as YYYY-MM-DD."),
        (("--to", "2026-02-30"), "must be a day, written as YYYY-MM-DD."),
        (("--from", "2026-03-02", "--to", "2026-03-01"), "The last day is before the first day."),
        (("--to", "2020-03-01"), "The last day is before the first of this month."),
        (("--by", "prompt"), "'prompt' is not one of"),
    ],
)
def test_usage_that_cannot_be_shown(filled: Line, options: tuple[str, ...], why: str) -> None:
    done = filled.click("usage", *options)
    assert done.exit_code == 2
    assert why in done.stderr


# -- invoices -----------------------------------------------------------------------------------

FIRST = 1_772_323_200.0
"""2026-03-01 00:00:00 UTC."""

ENTRIES = [
    entry(FIRST, 1_500_000),
    entry(FIRST + DAY - 0.5, 500_000),
    entry(FIRST + DAY, 1_000_000),
    entry(FIRST + DAY + 60, 250_000, "unknown"),
    entry(FIRST + 2 * DAY, 0, "cached"),
    entry(FIRST + 3 * DAY, 40_000),
    entry(FIRST - 1, 9_000_000),
    entry(FIRST + 5 * DAY, 9_000_000),
]
INVOICE = 'Date,Amount\n2026-03-01,$2.00\n2026-03-02,"1.00"\n2026-03-03,3\n2026-03-05,0.005\n'


@pytest.fixture
def billed(filled: Line) -> Line:
    """A command line whose store has the entries, and an invoice."""
    record(filled, ENTRIES)
    (filled.folder / "invoice.csv").write_text(INVOICE)
    return filled


def test_days_are_compared(billed: Line) -> None:
    done = billed.click("usage", "compare", "invoice.csv", "--format", "json")
    assert done.exit_code == 1
    days = json.loads(done.stdout)
    assert days[1] == {
        "day": "2026-03-02",
        "recorded_usd": "1.25",
        "unknown_usd": "0.25",
        "billed_usd": "1",
        "drift_usd": "-0.25",
        "drift_percent": -20.0,
        "sides": "both",
        "within_tolerance": False,
        "explained": True,
    }
    assert [
        (day["day"][-1], day["recorded_usd"], day["billed_usd"], day["drift_usd"], day["sides"])
        for day in days
    ] == [
        ("1", "2", "2", "0", "both"),
        ("2", "1.25", "1", "-0.25", "both"),
        ("3", None, "3", "3", "billed"),
        ("4", "0.04", None, "-0.04", "recorded"),
        ("5", None, "0.005", "0.005", "billed"),
    ]
    assert [day["within_tolerance"] for day in days] == [True, False, False, False, True]
    assert [day["day"] for day in days if day["explained"]] == ["2026-03-02"]
    assert done.stderr.endswith(
        "3 of 5 days differ by more than $0.01.\n"
        "Unknown purchases explain the drift of 2026-03-02.\n"
    )
    table = billed.click("usage", "compare", "invoice.csv").stdout.splitlines()
    assert table[2].endswith("-20.00  unknown purchases")


def test_a_table_has_a_total_and_marks_days_of_one_side(billed: Line) -> None:
    done = billed.click("usage", "compare", "invoice.csv", "--tolerance-usd", "0.25")
    assert done.exit_code == 1
    titles, *rows = (row.split() for row in done.stdout.splitlines())
    assert titles[:3] == ["day", "recorded", "USD"]
    assert rows == [
        ["2026-03-01", "2.00", "0.00", "2.000", "0.000", "+0.00"],
        ["2026-03-02", "1.25", "0.25", "1.000", "-0.250", "-20.00"],
        ["2026-03-03", "-", "0.00", "3.000", "3.000", "-", "not", "recorded"],
        ["2026-03-04", "0.04", "0.00", "-", "-0.040", "-100.00", "not", "billed"],
        ["2026-03-05", "-", "0.00", "0.005", "0.005", "-", "not", "recorded"],
        ["total", "3.29", "0.25", "6.005", "2.715", "+82.52"],
    ]


def test_an_invoice_may_come_through_a_pipe(billed: Line) -> None:
    done = billed.click("usage", "compare", "-", "--format", "csv", stdin=INVOICE)
    assert done.stdout == billed.click("usage", "compare", "invoice.csv", "--format", "csv").stdout
    assert done.exit_code == 1


def test_within_the_tolerance_all_is_well(billed: Line) -> None:
    done = billed.click("usage", "compare", "invoice.csv", "--tolerance-usd=3", "--format", "csv")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = list(csv.DictReader(StringIO(done.stdout)))
    assert [row["drift_usd"] for row in rows] == ["0", "-0.25", "3", "-0.04", "0.005"]
    assert {row["within_tolerance"] for row in rows} == {"true"}


def test_faults_are_listed_all_at_once(line: Line) -> None:
    (line.folder / "bad.csv").write_text("date,amount\n2026-03-32,1\n2026-03-01,much\n")
    done = line.click("usage", "compare", "bad.csv")
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "bad.csv: line 2: its day is not in the calendar, from 1970 to 9998",
        "bad.csv: line 3: its amount is not a number of dollars, such as 1234.56 or $1,234.56",
    ]
    done = line.click("usage", "compare", "none.csv")
    assert done.exit_code == 2
    assert done.stderr == "none.csv: cannot be read: No such file or directory\n"
    (line.folder / "good.csv").write_text(INVOICE)
    assert line.click("usage", "compare", "good.csv", "--tolerance-usd", "-1").exit_code == 2
    done = line.click("usage", "compare", "good.csv")
    assert (done.exit_code, "There is no database" in done.stderr) == (1, True)
