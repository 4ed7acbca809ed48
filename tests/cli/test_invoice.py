"""`gateway usage compare`: an invoice against recorded costs."""

import asyncio
import csv
import json
from io import StringIO
from pathlib import Path

import pytest

from gateway.config.load import read_settings
from gateway.core.model import Entry
from gateway.server.startup import open_store
from tests.support.line import Line

DAY = 86_400.0
FIRST = 1_772_323_200.0
"""2026-03-01 00:00:00 UTC."""
PEPPER = "pepper-of-a-test-of-invoices"

ENTRIES = [
    ("a", FIRST, "bought", 1_500_000),
    ("b", FIRST + DAY - 0.5, "bought", 500_000),
    ("c", FIRST + DAY, "bought", 1_000_000),
    ("d", FIRST + DAY + 60, "unknown", 250_000),
    ("e", FIRST + 2 * DAY, "cached", 0),
    ("f", FIRST + 3 * DAY, "bought", 40_000),
    ("g", FIRST - 1, "bought", 9_000_000),
    ("h", FIRST + 5 * DAY, "bought", 9_000_000),
]
INVOICE = 'Date,Amount\n2026-03-01,$2.00\n2026-03-02,"1.00"\n2026-03-03,3\n2026-03-05,0.005\n'


async def fill(url: str) -> None:
    """Write the entries into a store."""
    settings, _ = read_settings("", {"GATEWAY_STORE_URL": url})
    store = await open_store(settings, PEPPER.encode())
    common = {"team": "red", "key": "k1", "model": "m", "size": "s", "quality": "q"}
    entries = [
        Entry(id=id, at=at, outcome=outcome, cost=cost, **common)  # type: ignore[arg-type]
        for id, at, outcome, cost in ENTRIES
    ]
    await store.accounts.record(entries)
    await store.close()


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """A command line with a store that has the entries, and an invoice."""
    url = f"sqlite:{tmp_path / 'my.db'}"
    asyncio.run(fill(url))
    line = Line(tmp_path)
    line.environ |= {"GATEWAY_STORE_URL": url, "GATEWAY_KEYS_PEPPER": PEPPER}
    (tmp_path / "invoice.csv").write_text(INVOICE)
    return line


def test_days_are_compared(line: Line) -> None:
    done = line.click("usage", "compare", "invoice.csv", "--format", "json")
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
    assert "3 of 5 days differ by more than $0.01." in done.stderr


def test_a_table_has_a_total_and_marks_days_of_one_side(line: Line) -> None:
    done = line.click("usage", "compare", "invoice.csv", "--tolerance-usd", "0.25")
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


def test_an_invoice_may_come_through_a_pipe(line: Line) -> None:
    done = line.run("usage", "compare", "-", "--format", "csv", stdin=INVOICE)
    assert done.stdout == line.click("usage", "compare", "invoice.csv", "--format", "csv").stdout
    assert done.returncode == 1


def test_within_the_tolerance_all_is_well(line: Line) -> None:
    done = line.click("usage", "compare", "invoice.csv", "--tolerance-usd=3", "--format", "csv")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = list(csv.DictReader(StringIO(done.stdout)))
    assert [row["drift_usd"] for row in rows] == ["0", "-0.25", "3", "-0.04", "0.005"]
    assert {row["within_tolerance"] for row in rows} == {"true"}


def test_faults_are_listed_all_at_once(tmp_path: Path) -> None:
    line = Line(tmp_path)
    (tmp_path / "bad.csv").write_text("date,amount\n2026-03-32,1\n2026-03-01,much\n")
    done = line.click("usage", "compare", "bad.csv")
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "bad.csv: line 2: its day is not in the calendar, from 1970 to 9998",
        "bad.csv: line 3: its amount is not a number of dollars, such as 1234.56 or $1,234.56",
    ]
    done = line.click("usage", "compare", "none.csv")
    assert (done.exit_code, done.stderr) == (
        *(2,),
        "none.csv: cannot be read: No such file or directory\n",
    )
    (tmp_path / "good.csv").write_text(INVOICE)
    assert line.click("usage", "compare", "good.csv", "--tolerance-usd", "-1").exit_code == 2
    done = line.click("usage", "compare", "good.csv")
    assert (done.exit_code, "There is no database" in done.stderr) == (1, True)
