"""The suite for ClaimStore."""

import asyncio

import pytest

from gateway.stores.port import Store
from tests.conformance.store import MakeStore
from tests.support.steps import until

LONG = 3_600.0
SHORT = 0.3


async def claimable(store: Store, name: str, owner: str) -> None:
    """Wait until the claim is free, and take it."""

    async def claimed() -> bool:
        return await store.claims.claim(name, owner, LONG) is None

    await until(claimed, 20)


class ClaimConformance:
    async def test_one_of_many_gets_a_claim(self, store: Store, other: Store) -> None:
        owners = [f"gateway {number}" for number in range(10)]
        stores = [store, other] * 5
        left = await asyncio.gather(
            *(at.claims.claim("a", owner, LONG) for at, owner in zip(stores, owners, strict=True))
        )
        assert left.count(None) == 1
        assert all(0 < each <= LONG for each in left if each is not None)
        assert await other.claims.claim("b", "gateway 1", LONG) is None
        (claim,) = [claim for claim in await other.claims.current() if claim.name == "a"]
        assert claim.owner == owners[left.index(None)]

    async def test_an_owner_extends_a_claim_with_another_note(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            assert await store.claims.claim("a", "me", 60, b"first") is None
            (first,) = await store.claims.current()
            assert await store.claims.claim("a", "me", LONG, b"second \0 :") is None
            (second,) = await store.claims.current()
        assert (first.note, second.note) == (b"first", b"second \0 :")
        assert (first.owner, first.done, second.done) == ("me", False, False)
        assert second.ends > first.ends

    @pytest.mark.parametrize("other", ["another", "m", "me0", "", "0:me", "2:me"])
    async def test_no_other_owner_gets_a_claim_before_it_ends(
        self, other: str, store: Store
    ) -> None:
        assert await store.claims.claim("a", "me", LONG, b"0:") is None
        (before,) = await store.claims.current()
        assert await store.claims.claim("a", other, LONG, b"theirs") is not None
        assert await store.claims.current() == [before]

    async def test_another_owner_gets_a_claim_that_ended(self, store: Store, other: Store) -> None:
        assert await store.claims.claim("a", "killed", SHORT) is None
        await claimable(other, "a", "living")
        assert await store.claims.claim("a", "killed", LONG) is not None
        (claim,) = await store.claims.current()
        assert claim.owner == "living"

    async def test_a_claim_that_is_done_cannot_be_claimed(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            assert await store.claims.claim("a", "me", LONG, b"before") is None
            await store.claims.complete("a", "me", LONG, b"after")
        async with make_store() as store:
            for owner in ("me", "another"):
                left = await store.claims.claim("a", owner, LONG)
                assert left is not None
                assert LONG - 60 < left <= LONG
            (claim,) = await store.claims.current()
            assert (claim.done, claim.note) == (True, b"after")

    async def test_an_owner_can_complete_a_claim_that_another_has_taken(self, store: Store) -> None:
        assert await store.claims.claim("a", "another", LONG) is None
        await store.claims.complete("a", "me", LONG)
        assert await store.claims.claim("a", "another", LONG) is not None

    async def test_claims_that_ended_are_forgotten(self, store: Store) -> None:
        await store.claims.complete("over", "me", SHORT)
        assert await store.claims.claim("later", "me", LONG) is None
        await store.claims.complete("last", "ünï", 2 * LONG)
        await claimable(store, "over", "another")
        assert [claim.name for claim in await store.claims.current()] == [
            "last",
            "over",
            "later",
        ]
        await store.claims.complete("over", "me", SHORT)

        async def gone() -> bool:
            return len(await store.claims.current()) == 2

        await until(gone, 20)
        assert {claim.owner for claim in await store.claims.current()} == {"me", "ünï"}
