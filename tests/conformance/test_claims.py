"""The suite for ClaimStore."""

import asyncio
from functools import partial

from gateway.stores.port import Store
from tests.conformance.store import MakeStore
from tests.support.steps import until

LONG = 3_600.0
SHORT = 0.3


async def _claims(store: Store, name: str, owner: str) -> bool:
    return await store.claims.claim(name, owner, LONG) is None


async def test_one_of_many_gets_a_claim(store: Store, other: Store) -> None:
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


async def test_only_its_owner_extends_a_claim_before_it_ends(store: Store) -> None:
    assert await store.claims.claim("a", "me", 60, b"first 0:") is None
    (first,) = await store.claims.current()
    assert (first.owner, first.done, first.note) == ("me", False, b"first 0:")
    for other in ("another", "m", "me0", "", "0:me", "2:me"):
        assert await store.claims.claim("a", other, LONG, b"theirs") is not None
        assert await store.claims.current() == [first]
    assert await store.claims.claim("a", "me", LONG, b"second \0 :") is None
    (second,) = await store.claims.current()
    assert (second.done, second.note) == (False, b"second \0 :")
    assert second.ends > first.ends


async def test_a_claim_that_is_done_cannot_be_claimed(make_store: MakeStore) -> None:
    async with make_store() as store:
        assert await store.claims.claim("a", "another", LONG, b"before") is None
        await store.claims.complete("a", "me", LONG, b"after")  # whoever claimed it
    async with make_store() as store:
        for owner in ("me", "another"):
            left = await store.claims.claim("a", owner, LONG)
            assert left is not None
            assert LONG - 60 < left <= LONG
        (claim,) = await store.claims.current()
        assert (claim.done, claim.note) == (True, b"after")


async def test_a_claim_that_ended_is_free_and_forgotten(store: Store, other: Store) -> None:
    await store.claims.complete("over", "me", SHORT)
    assert await store.claims.claim("later", "me", LONG) is None
    await store.claims.complete("last", "ünï", 2 * LONG)
    await until(partial(_claims, other, "over", "another"), 20)
    assert await store.claims.claim("over", "me", LONG) is not None
    assert [claim.name for claim in await store.claims.current()] == ["last", "over", "later"]
    await store.claims.complete("over", "me", SHORT)

    async def gone() -> bool:
        return len(await store.claims.current()) == 2

    await until(gone, 20)
    assert {claim.owner for claim in await store.claims.current()} == {"me", "ünï"}
