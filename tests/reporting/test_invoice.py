"""Variants of invoices, and every fault of one with its line."""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reporting.invoice import InvoiceError, compared, read_invoice, total


def faults(content: str | bytes) -> list[str]:
    with pytest.raises(InvoiceError) as raised:
        read_invoice(content.encode() if isinstance(content, str) else content)
    return raised.value.faults


@pytest.mark.parametrize(
    "content",
    [
        "date,amount\n2026-11-01,1234.5\n2026-11-02,0.25\n",
        '\ufeffDate,Amount\r\n2026-11-01,"$1,234.50"\r\n2026-11-02,$0.25',
        'DAY;"Cost"\n"2026-11-01";"1234.5"\n\n2026-11-02;.25\n',
        "\n\nproject\t amount_usd \tDay\nx\tUSD 1234.50\t2026-11-01\n\t0.25 USD\t2026-11-02",
        "cost_usd,date\nUS$1234.5,2026-11-01T00:00:00Z\n2.5e-1,2026-11-01 23:59:59-00:30\n",
        "date,amount\n2026-11-02,(0.75)\n2026-11-01,1000\n2026-11-01,+234.50\n2026-11-02,$1\n",
        'date,amount,note\n2026-11-01,1234.5,"two\nlines, one field"\n2026-11-02,1\n'
        "2026-11-02,-$0.75\n",
        "date,amount\n2026-11-02 00:30 UTC,0.25\n2026-11-02T00:30:00.5+01:00,1234.5\n",
    ],
)
def test_variants_of_one_invoice(content: str) -> None:
    assert read_invoice(content.encode()) == {"2026-11-01": 1_234_500_000, "2026-11-02": 250_000}


def test_every_fault_has_its_line() -> None:
    content = (
        'date,amount,"a\nb"\n2026-11-31,1,\nyesterday,1,\n2026-11-01,one,\n2026-11-01\n,5,\n\n'
        '2026-11-01,"1,23",\n2026-11-01,€5,\n2026-11-01,,\n2026-11-01,.,\n2026-11-01,1e99,\n'
        '2026-11-01,1,"open'
    )
    day, amount = "its day is not written as 2026-11-01", "its amount is not a number of dollars"
    found = faults(content)
    for fault, expected in zip(
        found,
        [
            "line 3: its day is not in the calendar",
            f"line 4: {day}",
            f"line 5: {amount}",
            "line 6: has fewer fields than there are titles",
            f"line 7: {day}",
            f"line 9: {amount}",
            f"line 10: {amount}",
            f"line 11: {amount}",
            f"line 12: {amount}",
            "line 13: its amount is above a billion dollars",
            "line 14: is not CSV",
        ],
        strict=True,
    ):
        assert fault.startswith(expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ["line 1: no column is called date or day", "line 1: no column is called amount"]),
        (b"date,day,cost\n", ["line 1: more than one column is called date or day"]),
        (b"\ndate,price\n", ["line 2: no column is called amount or cost"]),
        (b"date,amount\n\n", ["it has titles but no rows"]),
        (b"date,amount\n2026-11-01,\xff\n", ["line 2: is not UTF-8 text"]),
        ("date,amount\n2026-11-01,٣\n".encode(), ["line 2: its amount is not a number"]),
        ("date,amount\n٢٣٢٦-11-01,3\n".encode(), ["line 2: its day is not written"]),
        (b"date,amount\n1969-12-31,3\n", ["line 2: its day is not in the calendar"]),
        (b"date,amount\n9999-12-31,3\n", ["line 2: its day is not in the calendar"]),
        (b"date;amount\n2026-11-01;1,500\n", ["line 2: its amount is not a number"]),
        (b'date,amount\n2026-11-01,"0,123"\n', ["line 2: its amount is not a number"]),
    ],
)
def test_an_unusable_invoice_is_refused(content: bytes, expected: list[str]) -> None:
    found = faults(content)
    assert len(found) == len(expected)
    assert all(fault.startswith(start) for fault, start in zip(found, expected, strict=True))


@given(st.lists(st.decimals(-10_000, 10_000, places=6), min_size=1, max_size=30))
def test_amounts_are_added_up_exactly(amounts: list[Decimal]) -> None:
    rows = "\n".join(f"2026-11-01,{amount:f}" for amount in amounts)
    assert read_invoice(f"date,amount\n{rows}".encode()) == {"2026-11-01": sum(amounts) * 1_000_000}


def test_fractions_of_a_micro_dollar_are_rounded_once_a_day() -> None:
    rows = "2026-11-01,0.0000004\n" * 5
    assert read_invoice(f"date,amount\n{rows}".encode()) == {"2026-11-01": 2}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for text in (content, b"date,amount\n" + content):
        with suppress(InvoiceError):
            assert all(isinstance(cost, int) for cost in read_invoice(text).values())


@pytest.mark.parametrize(("tolerance", "outside"), [(6, 3), (7, 2), (9, 2), (10, 0)])
def test_days_of_only_one_side_are_compared_too(tolerance: int, outside: int) -> None:
    days = compared(
        billed={"2026-11-01": 90, "2026-11-03": 10},
        recorded={"2026-11-01": 100, "2026-11-02": 7},
        unknown={"2026-11-01": 10},
        tolerance=tolerance,
    )
    assert [(day.day, day.sides, day.drift, day.drift_percent, day.unknown) for day in days] == [
        ("2026-11-01", "both", -10, -10.0, 10),
        ("2026-11-02", "recorded", -7, -100.0, 0),
        ("2026-11-03", "billed", 10, None, 0),
    ]
    assert sum(not day.within_tolerance for day in days) == outside
    whole = total(days, tolerance)
    assert (whole.recorded, whole.billed, whole.drift, whole.unknown) == (107, 100, -7, 10)


@pytest.mark.parametrize(
    ("billed", "unknown", "explained"),
    [
        (90, 10, True),  # none of it was billed
        (95, 10, True),  # a part of it was
        (88, 10, True),  # within the tolerance of 2
        (87, 10, False),
        (98, 10, False),  # nothing to explain
        (110, 10, False),
        (90, 0, False),
        (None, 100, True),
    ],
)
def test_unknown_purchases_explain_what_was_not_billed(
    billed: int | None, unknown: int, explained: bool
) -> None:
    (day,) = compared({} if billed is None else {"d": billed}, {"d": 100}, {"d": unknown}, 2)
    assert day.explained is explained
