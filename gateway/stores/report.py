"""Adds up usage for a report, in turns with other tasks: a report may have 100,000 rows."""

from collections.abc import Iterable
from heapq import merge
from itertools import islice

from gateway.core.model import UsageRow
from gateway.core.tasks import in_turns
from gateway.stores.sums import SUMS, Group, Numbers, Sums

RUN = 1_000
"""Groups that are sorted at once. A long sort cannot be interrupted, a merge of short runs can."""


async def add_all(sums: Sums, rows: Iterable[tuple[Group, Numbers]]) -> None:
    """Add numbers to the sums, each to those of its group."""
    async for group, numbers in in_turns(rows):
        sums.add(group, numbers)


async def rows_of(sums: Sums) -> list[UsageRow]:
    """Return the groups with any usage as a report, in order."""
    groups = iter(sums.items())
    runs = iter(lambda: sorted(islice(groups, RUN)), [])
    return [
        UsageRow(group=group, **dict(zip(SUMS, numbers, strict=True)))
        async for group, numbers in in_turns(merge(*[run async for run in in_turns(runs)]))
        if any(numbers)
    ]
