"""SQLite and Redis side by side: the same calls in any order get the same answers from both."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from gateway.core.errors import StoreUnavailable
from gateway.core.model import AuditEntry, Entry, Limits, Team
from gateway.quota.account import Account
from gateway.quota.purchase import PurchaseFilter, RecordState
from gateway.quota.store import Change
from gateway.stores.port import Store
from gateway.tenants.store import DirectoryWrite, UnknownTeam
from tests.conformance.store import NOON, entry, held, refund, spent, unknown
from tests.support.states import changes as audit_entries
from tests.support.states import keys as keys_of
from tests.support.stores import KINDS, ONE_SERVER, Places

T = TypeVar("T")

PAST, FUTURE = 1.0, 9e9
"""Leases that have ended, and that will not, whatever the clock of the store."""

names = st.sampled_from(["gateway", "team:red", "team:blue", "team:ü"])
ids = st.sampled_from([f"r{number}" for number in range(6)])
accounts = st.integers(0, 3).map(spent) | st.builds(
    lambda id, lease: held(**{id: lease}), ids, st.sampled_from([PAST, PAST + 1, FUTURE])
)
entries = st.builds(
    lambda id, hour, outcome, team: entry(
        id, at=NOON + 3600 * (int(id[1]) + hour), outcome=outcome, team=team
    ),
    ids,
    st.just(0),
    st.sampled_from(["bought", "failed", "unknown"]),
    st.sampled_from(["red", "blue"]),
)
kept = st.builds(
    lambda id, make, team: make(id, at=NOON + 3600 * int(id[1]), team=team),
    ids,
    st.sampled_from([unknown, unknown, refund]),
    st.sampled_from(["red", "blue"]),
)
batches = st.lists(entries | kept, max_size=2, unique_by=lambda one: one.id)
teams = st.builds(
    lambda name, images, deleted: Team(
        name=name, limits=Limits(images_per_day=images), deleted=deleted
    ),
    st.sampled_from(["red", "blue", "ü"]),
    st.none() | st.integers(0, 9),
    st.booleans(),
)
groupings = st.lists(
    st.sampled_from(["team", "key", "day", "hour", "outcome"]), unique=True, max_size=3
)
bounds = st.none() | st.integers(-1, 8).map(lambda hours: NOON + 3600 * hours)
owners = st.sampled_from(["one", "two"])


class SideBySide(RuleBasedStateMachine):
    """Calls both stores. Each example has its own, at places that were never used."""

    places: ClassVar[Places]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opened = AsyncExitStack()
        self.stores: list[Store] = []
        self.versions: dict[str, int] = {}
        self.generations: dict[Store, list[int]] = {}

    @initialize()
    def open(self) -> None:
        async def open_all() -> list[Store]:
            stores = [self.places.new(kind)() for kind in KINDS]
            return [await self.opened.enter_async_context(store) for store in stores]

        self.stores = self.runner.run(open_all())
        for store in self.stores:
            self.generations[store] = [self.runner.run(store.directory.changes(0)).generation]

    def teardown(self) -> None:
        self.runner.run(self.opened.aclose())
        self.runner.close()

    def both(self, call: Callable[[Store], Awaitable[T]]) -> T:
        """Call both stores, and return the answer or raise the error that they agree on."""

        async def one(store: Store) -> T | Exception:
            try:
                return await call(store)
            except StoreUnavailable:
                raise
            except Exception as failure:  # noqa: BLE001 - both must raise the same
                return failure

        first, second = (self.runner.run(one(store)) for store in self.stores)
        if isinstance(first, Exception):
            assert repr(first) == repr(second)
            raise first
        assert first == second
        return first

    # -- money ----------------------------------------------------------------------------------

    @rule(
        changed=st.dictionaries(names, accounts, max_size=3),
        written=batches,
        stale=st.booleans(),
    )
    def swap(self, changed: dict[str, Account], written: list[Entry], stale: bool) -> None:
        swap = [
            Change(name, max(0, self.versions.get(name, 0) - stale), account)
            for name, account in changed.items()
        ]
        if self.both(lambda store: store.accounts.swap(swap, written)):
            for change in swap:
                self.versions[change.name] = change.version + 1

    @rule(written=batches)
    def record(self, written: list[Entry]) -> None:
        self.both(lambda store: store.accounts.record(written))

    @rule(thorough=st.booleans())
    def probe(self, thorough: bool) -> None:
        self.both(lambda store: store.accounts.probe(thorough=thorough))

    @rule(wanted=st.lists(names, unique=True, min_size=1))
    def load(self, wanted: list[str]) -> None:
        async def loaded(store: Store) -> list[tuple[Account, int]]:
            return (await store.accounts.load(wanted)).accounts

        for name, (_, version) in zip(wanted, self.both(loaded), strict=True):
            assert version == self.versions.get(name, 0)

    @rule(purchases=st.lists(ids, unique=True))
    def written(self, purchases: list[str]) -> None:
        wanted = {id: NOON + 3600 * int(id[1]) for id in purchases}
        self.both(lambda store: store.accounts.written(wanted))

    @rule(id=st.none() | ids, state=st.sampled_from([None, "unknown", "refunded"]))
    def purchases(self, id: str | None, state: RecordState | None) -> None:
        self.both(lambda store: store.purchases.page(PurchaseFilter(id=id), state, 9))

    @invariant()
    def the_same_leases_are_due(self) -> None:
        if self.stores:

            async def due(store: Store) -> list[str]:
                return sorted(await store.accounts.due())  # the order of equal leases is open

            self.both(due)

    @rule(by=groupings, start=bounds, end=bounds, team=st.none() | st.sampled_from(["red", "no"]))
    def report(
        self, by: list[str], start: float | None, end: float | None, team: str | None
    ) -> None:
        self.both(lambda store: store.usage.report(by, start, end, team))

    # -- teams, keys and claims -------------------------------------------------------------------

    @rule(
        data=st.data(),
        changed=st.lists(teams, max_size=2, unique_by=lambda team: team.name),
        logged=st.lists(audit_entries, max_size=1),
        stale=st.booleans(),
    )
    def commit(
        self, data: st.DataObject, changed: list[Team], logged: list[AuditEntry], stale: bool
    ) -> None:
        keys = data.draw(st.lists(keys_of([*changed, Team(name="red")]), max_size=1))
        keys = [replace(key, id=f"k{len(key.id) % 3}") for key in keys]
        write = DirectoryWrite(teams=changed, keys=keys, audit=logged)

        async def committed(store: Store) -> bool:
            known = (await store.directory.changes(0)).generation
            done = await store.directory.commit(known - stale, write)
            self.generations[store].append((await store.directory.changes(0)).generation)
            return done

        with suppress(UnknownTeam):
            self.both(committed)

    @rule(data=st.data())
    def read_changes(self, data: st.DataObject) -> None:
        """Read those since a generation that each store has given out, in numbers of its own."""
        counts = {len(generations) for generations in self.generations.values()}
        index = data.draw(st.integers(0, min(counts) - 1))

        async def changes(store: Store) -> object:
            found = await store.directory.changes(self.generations[store][index])
            # The order within one commit is open.
            return sorted(found.teams, key=repr), sorted(found.keys, key=repr)

        self.both(changes)

    @rule(uses=st.dictionaries(st.sampled_from(["k0", "k1", "k2"]), st.integers(1, 9)))
    def use_keys(self, uses: dict[str, int]) -> None:
        times = {id: NOON + seconds for id, seconds in uses.items()}
        self.both(lambda store: store.directory.record_use(times))
        self.both(lambda store: store.directory.last_uses())

    @rule(start=st.none() | st.floats(0, 2**32), limit=st.none() | st.integers(1, 3))
    def read_audit(self, start: float | None, limit: int | None) -> None:
        self.both(lambda store: store.audit.entries(start, None, None, limit))

    @rule(name=st.sampled_from("ab"), owner=owners, done=st.booleans(), note=st.binary(max_size=3))
    def claim(self, name: str, owner: str, done: bool, note: bytes) -> None:
        async def claimed(store: Store) -> object:
            if done:
                await store.claims.complete(name, owner, 3600.0, note)
                return None
            return await store.claims.claim(name, owner, 3600.0, note) is None

        async def current(store: Store) -> Sequence[object]:
            found = await store.claims.current()
            return sorted((one.name, one.owner, one.done, one.note) for one in found)

        self.both(claimed)
        self.both(current)

    @rule(name=st.sampled_from("ab"), value=st.binary(max_size=2))
    def check(self, name: str, value: bytes) -> None:
        self.both(lambda store: store.check_value(name, value))


def run_machine(places: Places, examples: int) -> None:
    SideBySide.places = places
    run_state_machine_as_test(
        SideBySide,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=ONE_SERVER,
        ),
    )


def test_both_stores_give_the_same_answers(places: Places) -> None:
    run_machine(places, 25)


@pytest.mark.exhaustive
def test_both_stores_give_the_same_answers_in_many_runs(places: Places) -> None:
    run_machine(places, 100)
