"""The suite for PictureStore."""

import time
from hashlib import sha256
from typing import Any

from gateway.reporting.store import PictureBuyer
from gateway.stores.port import Store

DIGEST, OTHER = (sha256(text).hexdigest() for text in (b"one", b"other"))
NOW = float(int(time.time()))
"""Redis forgets by its own clock."""


def buyer(purchase: str, sha256: str = DIGEST, **fields: Any) -> PictureBuyer:
    values = {"request_id": f"q-{purchase}", "at": NOW, "team": "red", "key": "k1", "model": "m"}
    return PictureBuyer(**{**values, "purchase": purchase, "sha256": sha256, "cost": 5, **fields})


async def test_the_purchases_of_a_picture_are_found_the_latest_first(store: Store) -> None:
    old = buyer("old", at=NOW - 60, team="ünï", cost=7)
    records = [buyer("a"), buyer("b"), old, buyer("a", OTHER)]
    await store.pictures.write(records, 1_000)
    assert await store.pictures.find(DIGEST, 9) == [buyer("b"), buyer("a"), old]
    assert await store.pictures.find(DIGEST, 2) == [buyer("b"), buyer("a")]
    assert await store.pictures.find(OTHER, 9) == [buyer("a", OTHER)]


async def test_a_repetition_changes_nothing(store: Store) -> None:
    for _ in range(2):
        await store.pictures.write([buyer("a"), buyer("b")], None)
    assert await store.pictures.find(DIGEST, 9) == [buyer("b"), buyer("a")]


async def test_no_other_text_has_a_purchase(store: Store) -> None:
    await store.pictures.write([buyer("a")], None)
    for text in ("", "ünï", DIGEST[:-1], DIGEST + "0", "*"):
        assert await store.pictures.find(text, 9) == []


async def test_records_are_forgotten_after_their_time(store: Store) -> None:
    days = 86_400.0
    await store.pictures.write([buyer("a", at=NOW - 3 * days)], 2 * days)
    await store.pictures.write([buyer("b", OTHER, at=NOW - days)], 2 * days)
    while await store.pictures.forget(NOW - 2 * days):
        pass
    assert await store.pictures.find(DIGEST, 9) == []
    assert await store.pictures.find(OTHER, 9) == [buyer("b", OTHER, at=NOW - days)]


async def test_a_later_purchase_keeps_the_earlier_one(store: Store) -> None:
    await store.pictures.write([buyer("a", at=NOW - 100)], 1_000)
    await store.pictures.write([buyer("b")], None)
    await store.pictures.write([buyer("c", at=NOW - 999)], 1_000)
    found = await store.pictures.find(DIGEST, 9)
    assert [each.purchase for each in found] == ["b", "a", "c"]
