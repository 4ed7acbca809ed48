"""The suite's part on the usage history: UsageStore and `record`."""

from gateway.model import UsageRow
from gateway.ports import Change
from gateway.rules.account import EMPTY
from tests.stores.conformance.store import MIDNIGHT, MakeStore, Store, entry

LAST = MIDNIGHT - 0.0001
"""The last moment of the day before: 2026-02-28."""


async def fill(store: Store) -> None:
    """Three teams' entries around a midnight, one of them by a swap."""
    await store.record(
        [
            entry("1", at=LAST, team="red", key="k1", model="m1"),
            entry("2", at=MIDNIGHT, team="red", key="k2", model="m2", images_bought=3, cost=30),
            entry(
                "3",
                at=MIDNIGHT + 5,
                team="red",
                key="k1",
                model="m1",
                outcome="cached",
                requests=40,
                images_bought=0,
                images_cached=80,
                cost=0,
                saved=400,
            ),
            entry("4", at=MIDNIGHT + 6, team="Blue", key="k3", model="m1", cost=2**53 + 1),
        ]
    )
    unknown = entry(
        "5", at=MIDNIGHT + 86_399.9999, team="ünï", key="k4", model="m2", images_unknown=1
    )
    assert await store.swap([Change("team:ünï", 0, EMPTY)], [unknown])


async def requests(store: Store, *by: str) -> dict[tuple[str, ...], int]:
    """Requests by group, in the order of the rows."""
    return {row.group: row.requests for row in await store.usage(by, None, None)}


class UsageConformance:
    async def test_usage_is_summed_by_hour(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            await fill(store)
            assert await requests(store, "hour", "size") == {
                ("2026-02-28T23:00:00Z", "s"): 1,
                ("2026-03-01T00:00:00Z", "s"): 42,
                ("2026-03-01T23:00:00Z", "s"): 1,
            }

    async def test_one_team_alone(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            await fill(store)
            rows = await store.usage(["team", "key"], None, None, "red")
            assert [row.group for row in rows] == [("red", "k1"), ("red", "k2")]
            assert await store.usage([], None, None, "nobody") == []

    async def test_no_entries_are_no_rows(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            assert await store.usage([], None, None) == []
            assert await store.usage(["team", "day"], 0.0, MIDNIGHT) == []
            await store.record([])
            assert await store.usage([], None, None) == []

    async def test_everything_is_summed_up(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            await fill(store)
            assert await store.usage([], None, None) == [
                UsageRow(
                    group=(),
                    requests=44,
                    images_bought=6,
                    images_cached=80,
                    images_unknown=1,
                    cost=2**53 + 41,
                    saved=400,
                )
            ]

    async def test_rows_are_by_the_groups_asked_for_and_in_their_order(
        self, make_store: MakeStore
    ) -> None:
        async with make_store() as store:
            await fill(store)
            by_team = await requests(store, "team")
            assert list(by_team.items()) == [(("Blue",), 1), (("red",), 42), (("ünï",), 1)]
            assert await requests(store, "key") == {
                ("k1",): 41,
                ("k2",): 1,
                ("k3",): 1,
                ("k4",): 1,
            }
            assert await requests(store, "model") == {("m1",): 42, ("m2",): 2}
            by_both = await requests(store, "model", "team")
            assert list(by_both) == sorted(by_both)
            assert by_both == {
                ("m1", "Blue"): 1,
                ("m1", "red"): 41,
                ("m2", "red"): 1,
                ("m2", "ünï"): 1,
            }

    async def test_days_are_utc_and_end_at_midnight_exactly(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            await fill(store)
            by_day = await requests(store, "day")
            assert list(by_day.items()) == [(("2026-02-28",), 1), (("2026-03-01",), 43)]
            assert await requests(store, "day", "team") == {
                ("2026-02-28", "red"): 1,
                ("2026-03-01", "Blue"): 1,
                ("2026-03-01", "red"): 41,
                ("2026-03-01", "ünï"): 1,
            }

    async def test_the_start_is_included_and_the_end_is_not(self, make_store: MakeStore) -> None:
        async def count(start: float | None, end: float | None) -> int:
            return sum(row.requests for row in await store.usage(["team"], start, end))

        async with make_store() as store:
            await fill(store)
            assert await count(None, MIDNIGHT) == 1
            assert await count(MIDNIGHT, None) == 43
            assert await count(MIDNIGHT, MIDNIGHT + 3600) == 42
            assert await count(MIDNIGHT + 3600, MIDNIGHT + 86_400) == 1
            assert await count(MIDNIGHT, MIDNIGHT + 86_400) == 43
            assert await count(MIDNIGHT, MIDNIGHT) == 0

    async def test_a_recorded_entry_replaces_the_one_with_its_id(
        self, make_store: MakeStore
    ) -> None:
        async with make_store() as store:
            await store.record([entry("e", at=MIDNIGHT, requests=1)])
            await store.record([entry("e", at=MIDNIGHT, requests=7), entry("f", at=MIDNIGHT)])
        async with make_store() as store:
            assert (await store.usage([], None, None))[0].requests == 8
