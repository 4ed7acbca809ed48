"""Dollars in, micro-dollars inside, dollars out: exact or refused."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import MICRO, dollars, format_usd

BILLION = 1_000_000_000


@pytest.mark.parametrize(
    ("written", "micro"),
    [
        ("0.006", 6_000),
        ("1", MICRO),
        ("0", 0),
        ("00.50", 500_000),
        ("0.0000010000", 1),
        (3, 3 * MICRO),
        (Decimal("0.211"), 211_000),
        (Decimal("1e-6"), 1),
        (Decimal("1E+2"), 100 * MICRO),
        (Decimal("-0"), 0),
        (BILLION, BILLION * MICRO),
    ],
)
def test_reads_dollars_exactly(written: str | int | Decimal, micro: int) -> None:
    assert dollars(written) == micro


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "-1", "+1", "1e3", "1_000", "1,5", ".5", "5.", "$1", "0x1", "inf", "nan", "1\n"),
        *("٣", "0.0000001", "1000000000.000001", "9" * 13, "0." + "1" * 13),
        *(-1, BILLION + 1, pytest.param(10**5_000, id="huge")),
        *map(
            Decimal, ("-0.000001", "0.0000001", "NaN", "sNaN", "Infinity", "1e-999999", "1e999999")
        ),
        Decimal("0.006" + "0" * 40 + "1"),
    ],
)
def test_refuses_other_amounts(written: str | int | Decimal) -> None:
    with pytest.raises(ValueError, match=r"^dollars "):
        dollars(written)


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (53_000, "0.053"),
        (MICRO, "1"),
        (0, "0"),
        (1, "0.000001"),
        (10 * MICRO, "10"),
        (1_234_567_890_123, "1234567.890123"),
        (-250_000, "-0.25"),
    ],
)
def test_writes_plain_decimals(micro: int, text: str) -> None:
    assert format_usd(micro) == text


@given(st.integers(min_value=0, max_value=BILLION * MICRO))
def test_amounts_survive_writing_and_reading(micro: int) -> None:
    assert dollars(format_usd(micro)) == micro
    assert dollars(Decimal(format_usd(micro))) == micro


@given(st.integers())
def test_text_has_no_exponent_and_no_trailing_zero(micro: int) -> None:
    text = format_usd(micro)
    assert Decimal(text) * MICRO == micro or abs(micro) > 10**20
    assert "E" not in text.upper()
    assert not ("." in text and text.endswith("0"))
