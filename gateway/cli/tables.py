"""Prints lists on standard output: JSON or CSV for scripts, tables for people.

In a terminal a table has lines and fits the window. Elsewhere it is plain text with one line per
row, so that grep works.
"""

import csv
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

import click
from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.base import note
from gateway.core.listing import Listing, listing

Cells = Mapping[str, str]
"""One row of a table: its texts by the titles of their columns."""

_TITLES = {
    "requests": "requests",
    "requests_refused": "refused",
    "images_bought": "bought",
    "images_cached": "cached",
    "images_coalesced": "shared",
    "images_unknown": "unknown",
    "cost_usd": "cost USD",
    "saved_usd": "saved USD",
}
"""The titles of the numbers of a usage row."""

_NUMBERS = {
    *_TITLES.values(),
    *("status", "images", "total ms", "own ms", "upstream ms"),
    *("recorded USD", "unknown USD", "billed USD", "drift USD", "drift %"),
}
"""The titles of columns with numbers."""

_OUTCOMES = {"hit": "cache hit", "miss": "bought", "collapsed": "shared", "coalesced": "shared"}
"""The words of a table for outcomes of log lines and of usage rows."""

_LIMITS = {
    "images_per_day": "{} images a day",
    "images_per_month": "{} images a month",
    "cost_per_day_usd": "${} a day",
    "cost_per_month_usd": "${} a month",
    "requests_per_minute": "{} requests a minute",
    "concurrent_requests": "{} at the same time",
}

_UNBROKEN = ("id", "key", "hour", "day", "at")
"""The titles of columns that a narrow terminal must not break into lines."""


def print_list(
    format: str,
    records: Sequence[Struct | Listing],
    cells: Callable[[Listing], Cells],
    *,
    total: Struct | Listing | None = None,
    none: str = "",
) -> None:
    """Print as "json", "csv" or "table". Only a table shows the `total`.

    Without records, print the note `none` on standard error.
    """
    listings = [_public(record) for record in records]
    if format == "json":
        click.echo(json.dumps(listings, indent=2))
    elif format == "csv":
        _print_csv(listings)
    elif listings:
        shown = listings if total is None else [*listings, _public(total)]
        _print_table(_align_points([cells(each) for each in shown]), with_total=total is not None)
    if none and not listings:
        note(none)


def print_record(format: str, record: Struct) -> None:
    """Print one record as "json", or as "table": one field a line."""
    fields = listing(record)
    if format == "json":
        click.echo(json.dumps(fields, indent=2))
    else:
        rows = [{"field": name, "value": text} for name, text in _fields(fields)]
        _print_table(rows, with_total=False)


def _fields(fields: Listing, path: str = "") -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", _plain(value)


def _public(record: Struct | Listing) -> Listing:
    return record if isinstance(record, dict) else listing(record)


# -- cells --------------------------------------------------------------------------------------


def team_cells(team: Listing) -> Cells:
    """Return the cells of a team. "all" means no restriction."""
    return {
        "team": team["team"],
        "models": _allowed(team["models"]),
        "sizes": _allowed(team["sizes"]),
        "qualities": _allowed(team["qualities"]),
        "max n": "all" if team["max_n"] is None else str(team["max_n"]),
        "cache": "on" if team["cache"] else "off",
        "deliver": team["deliver"] or "default",
        "unknown hold": _unknown_hold(team["unknown_hold_seconds"]),
        "limits": _limits(team["limits"]),
    }


def key_cells(key: Listing) -> Cells:
    """Return the cells of a key. It expires at the latest when its grace period ends."""
    expires = min(filter(None, (key["expires"], key["grace_ends"])), default=None)
    return {
        "id": key["id"],
        "team": key["team"],
        "name": key["name"] or "-",
        "state": key["state"],
        "limits": _limits(key["limits"]),
        "created": _minute(key["created"]),
        "expires": "never" if expires is None else _minute(expires),
        "last used": "never" if key["last_used"] is None else _minute(key["last_used"]),
        "line": "-" if key["line"] == key["id"] else key["line"],
    }


def audit_cells(entry: Listing) -> Cells:
    """Return the cells of an entry of the audit log: only the fields that changed."""
    return {
        "at": entry["at"],
        "who": entry["who"],
        "action": entry["action"],
        "team": entry["team"] or "-",
        "key": entry["key"] or "-",
        "change": "\n".join(_differences(entry["before"] or {}, entry["after"] or {})) or "-",
    }


def activity_cells(line: Listing) -> Cells:
    """Return the cells of a recent request. Times are in milliseconds."""
    outcome = _outcome(line["outcome"])
    error = line["code"] if line["code"] not in (None, line["outcome"]) else None
    return {
        "at": line["at"],
        "id": line["id"],
        "team": line["team"] or "-",
        "key": line["key"] or "-",
        "outcome": outcome if error is None else f"{outcome} ({error})",
        "route": line["route"] or "images",
        "status": str(line["status"]),
        "requests": str(line["requests"]),
        "images": str(line["images"]),
        "cost USD": line["cost_usd"],
        "saved USD": line["saved_usd"],
        "total ms": str(line["total_ms"]),
        "own ms": str(line["own_ms"]),
        "upstream ms": "-" if line["upstream_ms"] is None else str(line["upstream_ms"]),
        "cause": _cause(line),
    }


def _cause(line: Listing) -> str:
    """Return why a request failed: the limit that refused it, or what the upstream answered."""
    by, status, reason = line["refused_by"], line["upstream_status"], line["reason"]
    if by is not None:
        owner = by["scope"] if by["owner"] is None else f"{by['scope']} {by['owner']}"
        held = f" and {by['held']} held" if by["held"] not in (0, "0") else ""
        used = f"{by['used']}{held} of {by['size']} used, {by['asked']} asked"
        resets = "" if by["resets_at"] is None else f", resets at {by['resets_at']}"
        return f"{by['limit']} of {owner}: {used}{resets}"
    answer = None if status is None else f"upstream {status}"
    return ": ".join(filter(None, (answer, reason))) or "-"


def purchase_cells(purchase: Listing) -> Cells:
    """Return the cells of a purchase."""
    refunded = purchase["refunded"] or {"who": "-", "why": "-"}
    return {
        "id": purchase["id"],
        "state": purchase["state"],
        "at": purchase["at"],
        "team": purchase["team"],
        "key": purchase["key"],
        "images": str(purchase["images"]),
        "cost USD": purchase["cost_usd"],
        "request": purchase["request_id"] or "-",
        "refunded by": refunded["who"],
        "why": refunded["why"],
    }


def buyer_cells(buyer: Listing) -> Cells:
    """Return the cells of a purchase that bought a picture."""
    return {
        "at": buyer["at"],
        "team": buyer["team"],
        "key": buyer["key"],
        "model": buyer["model"],
        "cost USD": buyer["cost_usd"],
        "request": buyer["request_id"],
        "purchase": buyer["purchase"],
    }


def usage_cells(row: Listing, names: Mapping[str, str] = MappingProxyType({})) -> Cells:
    """Return the cells of a usage row. `names` are the keys' names by id."""
    cells = dict[str, str]()
    for name, value in row.items():
        cells[_TITLES.get(name, name)] = _outcome(value) if name == "outcome" else str(value)
        if name == "key":
            cells["name"] = names.get(value, "")
    return cells


def _outcome(outcome: str) -> str:
    return _OUTCOMES.get(outcome, outcome)


def _differences(before: Listing, after: Listing, path: str = "") -> Iterator[str]:
    """Yield a line for each field that differs. None equals a missing field."""
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) or isinstance(new, dict):
            yield from _differences(old or {}, new or {}, f"{path}{name}.")
        elif old != new:
            yield f"{path}{name}: {_plain(old)} -> {_plain(new)}"


def _plain(value: object) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def _allowed(values: Collection[str] | None) -> str:
    return "all" if values is None else ", ".join(values)


def _unknown_hold(seconds: float | None) -> str:
    """Return how long repeats of an unknown outcome are refused; "default" is the gateway's."""
    return "default" if seconds is None else f"{seconds:g} s"


def _limits(limits: Listing) -> str:
    """Return the limits that are set, one a line."""
    lines = [_LIMITS[name].format(value) for name, value in limits.items() if value is not None]
    return "\n".join(lines) or "none"


def _minute(iso: str) -> str:
    return iso[:16].replace("T", " ")


def _align_points(rows: Sequence[Cells]) -> list[Cells]:
    """Give all amounts in a column of money the same number of decimals, at least two."""
    money = [title for title in rows[0] if title.endswith(" USD")]
    places = {
        title: max(2, *(len(row[title].partition(".")[2]) for row in rows)) for title in money
    }
    return [
        {**row, **{title: _with_places(row[title], places[title]) for title in money}}
        for row in rows
    ]


def _with_places(amount: str, places: int) -> str:
    whole, _, fraction = amount.partition(".")
    return amount if amount == "-" else f"{whole}.{fraction:0<{places}}"


# -- output -------------------------------------------------------------------------------------


def _print_csv(listings: Sequence[Listing]) -> None:
    """Print the same fields as JSON under a line of their names; nothing without rows."""
    if listings:
        writer = csv.DictWriter(sys.stdout, listings[0].keys(), lineterminator="\n")
        writer.writeheader()
        for row in listings:
            writer.writerow({name: _csv_value(value) for name, value in row.items()})


def _csv_value(value: object) -> object:
    return json.dumps(value) if isinstance(value, bool) else value


def _print_table(rows: Sequence[Cells], *, with_total: bool) -> None:
    """Print a table. With a total, that is the last row."""
    terminal = sys.stdout.isatty()
    table = Table(
        box=box.SIMPLE_HEAD if terminal else None,
        show_edge=False,
        show_footer=with_total,
        padding=(0, 1, 0, 0) if terminal else (0, 2, 0, 0),
    )
    last = rows[-1] if with_total else {}
    for title in rows[0]:
        table.add_column(
            title,
            Text(last.get(title, "")),
            justify="right" if title in _NUMBERS else "left",
            overflow="fold",
            no_wrap=not terminal or title in _UNBROKEN,
        )
    for row in rows[:-1] if with_total else rows:
        table.add_row(
            *(Text(cell if terminal else cell.replace("\n", ", ")) for cell in row.values())
        )
    if terminal:
        Console().print(table)
        return
    console = Console(width=100_000, color_system=None)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
