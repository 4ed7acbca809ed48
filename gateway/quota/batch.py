"""A batch of steps: what it is decided on, and the decision, without waiting."""

import asyncio
from collections.abc import Container, Iterable
from typing import Any, Generic, TypeVar

import structlog

from gateway.core.errors import InternalError
from gateway.core.model import Entry
from gateway.quota.step import Step, StepResult
from gateway.quota.store import Change, Loaded, RecordChange

log = structlog.get_logger(source="ledger")

T = TypeVar("T")


class Pending(Generic[T]):
    """A waiting step and the future of its outcome. It is cancelled when the caller gives up."""

    def __init__(self, step: Step[T]) -> None:
        loop = asyncio.get_running_loop()
        self.step = step
        self.since = loop.time()
        self.outcome: asyncio.Future[T] = loop.create_future()


class Books:
    """What a batch is decided on: accounts and records of operations, as loaded and as changed."""

    def __init__(self, names: list[str], records: list[str], loaded: Loaded) -> None:
        self.now = loaded.now
        self._accounts = dict(zip(names, loaded.accounts, strict=True))
        self._records = dict(zip(records, loaded.records, strict=True))
        self.accounts = {name: account for name, (account, _) in self._accounts.items()}
        self.records = {name: record for name, (record, _) in self._records.items()}

    def changes(self, names: Container[str]) -> tuple[list[Change], list[RecordChange]]:
        """Return what to write of these accounts and records."""
        accounts = [
            Change(name, version, self.accounts[name])
            for name, (_, version) in self._accounts.items()
            if name in names
        ]
        records = [
            RecordChange(name, stamp, self.records[name])
            for name, (_, stamp) in self._records.items()
            if name in names
        ]
        return accounts, records


def decide(
    batch: Iterable[Pending[Any]], books: Books
) -> tuple[list[tuple[Pending[Any], StepResult[Any]]], set[str], list[Entry]]:
    """Apply the steps one after the other, each to the result of the former.

    Updates the books. Returns also the names of what changed, and the entries.
    """
    decided: list[tuple[Pending[Any], StepResult[Any]]] = []
    changed: set[str] = set()
    entries: list[Entry] = []
    for pending in batch:
        if pending.outcome.done():
            continue
        try:
            applied: StepResult[Any] = pending.step.apply(books.accounts, books.now, books.records)
        except Exception:  # a defect in one step must not stop all other purchases
            log.exception("step failed", step=type(pending.step).__name__)
            pending.outcome.set_exception(InternalError())
            pending.outcome.exception()  # marks it as retrieved: there may be no caller
            continue
        books.accounts.update(applied.changes)
        books.records.update(applied.records)
        changed.update(applied.changes, applied.records)
        entries += applied.entries
        decided.append((pending, applied))
    return decided, changed, entries
