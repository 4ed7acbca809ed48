"""The public form of records, and its type for the OpenAPI document."""

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from gateway.core.key_format import KeyId
from gateway.core.listing import listing, public_type
from gateway.core.money import MicroDollars
from gateway.core.periods import Duration, Timestamp


class Line(Struct, frozen=True, kw_only=True):
    """A line."""

    key: KeyId | None
    cost: MicroDollars
    took: Duration | None = None


class Page(Struct, frozen=True, kw_only=True):
    """A page."""

    start: Timestamp = field(name="from")
    lines: list[Line]
    costs: list[MicroDollars]
    team: str | UnsetType = UNSET


PAGE = Page(
    start=1_772_366_400.5,
    lines=[Line(key="k1", cost=42_000, took=0.25), Line(key=None, cost=0)],
    costs=[1, 2_000_000],
)


def test_fields_have_their_public_names_and_values() -> None:
    assert listing(PAGE) == {
        "from": "2026-03-01T12:00:00Z",
        "lines": [
            {"key": "sk-gw-k1", "cost_usd": "0.042", "took_ms": 250.0},
            {"key": None, "cost_usd": "0", "took_ms": None},
        ],
        "costs_usd": ["0.000001", "2"],
    }


def test_the_public_type_accepts_every_public_form() -> None:
    assert msgspec.convert([listing(PAGE)], public_type(list[Page])) is not None
    schema = msgspec.json.schema(public_type(Page))["$defs"]
    assert schema["Page"]["description"] == "A page."
    assert schema["Page"]["required"] == ["from", "lines", "costs_usd"]
    assert schema["Line"]["required"] == ["key", "cost_usd", "took_ms"]
