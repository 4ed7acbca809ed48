"""Lists on standard output: JSON for scripts, a table for people.

In a terminal the table has lines and fits the window. Anywhere else it is plain text, one line a
row, never cut: it may be read by grep.
"""

import csv
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from io import StringIO
from types import MappingProxyType

import click

from gateway.core.listing import Listing

Cells = Mapping[str, str]
"""One row of a table: texts under their column's title. A line break is a comma in plain text."""

_SUMS = {
    "requests": "requests",
    "requests_refused": "refused",
    "images_bought": "bought",
    "images_cached": "cached",
    "images_coalesced": "coalesced",
    "images_unknown": "unknown",
    "cost_usd": "cost USD",
    "saved_usd": "saved USD",
}
"""The numbers of a usage row and their titles in a table."""

_NUMBERS = (
    *("status", "images", "total ms", "own ms", "upstream ms"),
    *("recorded USD", "unknown USD", "billed USD", "drift USD", "drift %"),
)
"""Other columns that are numbers."""

_MONEY = " USD"
"""What the titles of amounts of money end with."""

_LIMITS = {
    "images_per_day": "{} images a day",
    "images_per_month": "{} images a month",
    "cost_per_day_usd": "${} a day",
    "cost_per_month_usd": "${} a month",
    "requests_per_minute": "{} requests a minute",
    "concurrent_requests": "{} at the same time",
}

_OUTCOMES = {"miss": "bought", "hit": "cache hit", "collapsed": "shared"}
"""Words for outcomes of requests that JSON names otherwise."""

_WHOLE = ("id", "key", "hour", "day", "at")
"""Columns that are not broken where a terminal is too narrow."""


def print_list(
    format: str,
    listings: Sequence[Listing],
    cells: Callable[[Listing], Cells],
    *,
    total: Listing | None = None,
) -> None:
    """Print as `format` says ("json", "csv" or "table"). Only a table shows the `total`."""
    if format == "json":
        click.echo(json.dumps(listings, indent=2))
        return
    if format == "csv":
        _print_csv(listings)
        return
    rows = [cells(listing) for listing in ([*listings] if total is None else [*listings, total])]
    if not listings:
        return
    rows = _pointed(rows)
    last = None if total is None else rows.pop()
    if sys.stdout.isatty():
        _print_rich(rows, last)
    else:
        _print_plain(rows, last)


# -- cells --------------------------------------------------------------------------------------


def team_cells(team: Listing) -> Cells:
    """A team in a table: what is not restricted is "all", only the limits that are set are told."""
    return {
        "team": team["team"],
        "models": _allowed(team["models"]),
        "sizes": _allowed(team["sizes"]),
        "qualities": _allowed(team["qualities"]),
        "max n": "all" if team["max_n"] is None else str(team["max_n"]),
        "cache": "on" if team["cache"] else "off",
        "limits": _limits(team["limits"]),
    }


def key_cells(key: Listing) -> Cells:
    """A key in a table. It expires at the end of its grace, where it has one."""
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
    """A line of the log of changes in a table: of before and after, what differs."""
    return {
        "at": entry["at"],
        "who": entry["who"],
        "action": entry["action"],
        "team": entry["team"] or "-",
        "key": entry["key"] or "-",
        "change": "\n".join(_differences(entry["before"] or {}, entry["after"] or {})) or "-",
    }


def activity_cells(line: Listing) -> Cells:
    """A recent request in a table, its times in milliseconds."""
    error = line["code"] if line["code"] not in (None, line["outcome"]) else None
    outcome = _OUTCOMES.get(line["outcome"], line["outcome"])
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
    }


def _differences(before: Listing, after: Listing, path: str = "") -> Iterator[str]:
    """A line for each field that differs. None and what is not there are the same."""
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) or isinstance(new, dict):
            yield from _differences(old or {}, new or {}, f"{path}{name}.")
        elif old != new:
            yield f"{path}{name}: {_plain(old)} -> {_plain(new)}"


def _plain(value: object) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def usage_cells(row: Listing, names: Mapping[str, str] = MappingProxyType({})) -> Cells:
    """A row of usage in a table; a key's name stands beside its id."""
    cells = dict[str, str]()
    for name, value in row.items():
        cells[_SUMS.get(name, name)] = str(value)
        if name == "key":
            cells["name"] = names.get(value, "")
    return cells


def _allowed(values: Collection[str] | None) -> str:
    return "all" if values is None else ", ".join(values)


def _limits(limits: Listing) -> str:
    """The limits that are set, one a line."""
    return (
        "\n".join(
            _LIMITS[name].format(value) for name, value in limits.items() if value is not None
        )
        or "none"
    )


def _minute(iso: str) -> str:
    return iso[:16].replace("T", " ")


def _pointed(rows: Sequence[Cells]) -> list[Cells]:
    """The rows with as many decimals in each column of money as its finest amount has, at least
    two: so its points stand below each other.
    """
    money = [title for title in rows[0] if title.endswith(_MONEY)]
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


# -- tables -------------------------------------------------------------------------------------


def _print_csv(listings: Sequence[Listing]) -> None:
    """The same fields as JSON's, under a line of their names; nothing at all without rows. What is
    true or false is written as there.
    """
    if listings:
        text = StringIO()
        writer = csv.DictWriter(text, listings[0].keys(), lineterminator="\n")
        writer.writeheader()
        for listing in listings:
            writer.writerow({name: _csv_value(value) for name, value in listing.items()})
        click.echo(text.getvalue(), nl=False)


def _csv_value(value: object) -> object:
    return json.dumps(value) if isinstance(value, bool) else value


def _print_plain(rows: Sequence[Cells], total: Cells | None) -> None:
    from rich.cells import cell_len, set_cell_size

    titles = {title: title for title in rows[0]}
    lines = [
        {title: cell.replace("\n", ", ") for title, cell in line.items()}
        for line in ([titles, *rows] if total is None else [titles, *rows, total])
    ]
    widths = {title: max(cell_len(line[title]) for line in lines) for title in titles}
    for line in lines:
        cells = [
            " " * (width - cell_len(line[title])) + line[title]
            if _is_sum(title)
            else set_cell_size(line[title], width)
            for title, width in widths.items()
        ]
        click.echo("  ".join(cells).rstrip())


def _print_rich(rows: Sequence[Cells], total: Cells | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.show_footer = total is not None
    for title in rows[0]:
        table.add_column(
            title,
            "" if total is None else Text(total[title]),
            justify="right" if _is_sum(title) else "left",
            overflow="fold",
            no_wrap=title in _WHOLE,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row.values()))
    Console().print(table)


def _is_sum(title: str) -> bool:
    return title in _SUMS.values() or title in _NUMBERS
