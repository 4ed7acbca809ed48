"""Small values for a store, and ways to write and read them."""

import asyncio
import random
from typing import Any, Protocol

import pytest
from msgspec.structs import asdict, replace

from gateway.core.errors import StoreUnavailable
from gateway.core.model import Entry
from gateway.core.periods import PeriodUsage
from gateway.quota.account import Account, Hold
from gateway.quota.purchase import KeptEntry, Purchase, Refunded, charged_entry
from gateway.quota.store import Change
from gateway.stores.port import Observe, Store

MIDNIGHT = 1_772_323_200.0
"""2026-03-01 00:00:00 UTC: the first second of a day and of a month."""

NOON = MIDNIGHT + 12 * 3600
PERIOD = 20_513
REFUNDED = Refunded(at=NOON + 60, who="command line as ünï", why="not billed")


class MakeStore(Protocol):
    """Makes stores on the same data, those of one test. It can be pickled."""

    def __call__(self, *, observe: Observe | None = None) -> Store: ...


class Wall:
    """A wall clock that a test sets."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def spent(images: int) -> Account:
    """An account that has spent so many images."""
    return Account(day=PeriodUsage(PERIOD, images))


def held(**leases: float) -> Account:
    """An account with open holds, by id, until these times."""
    return Account(
        holds={
            id: Hold(NOON, lease, "k1", "m", "s", "q", 1, 5, False) for id, lease in leases.items()
        }
    )


def entry(id: str, *, at: float = NOON, team: str = "red", **fields: int | str) -> Entry:
    """A usage entry; one image bought for 5 micro-dollars unless said otherwise."""
    values = {"key": "k1", "model": "m", "size": "s", "quality": "q", "outcome": "bought"}
    return Entry(
        **{**values, "id": id, "at": at, "team": team, "images_bought": 1, "cost": 5, **fields}  # type: ignore[arg-type]
    )


def purchase(id: str, *, at: float = NOON, **fields: Any) -> Purchase:
    """Two images for 10 micro-dollars, charged as unknown."""
    values = {"request_id": f"q-{id}", "team": "red", "key": "k1", "model": "m", "size": "s"}
    return Purchase(
        **{**values, "id": id, "at": at, "quality": "q", "images": 2, "cost": 10, **fields},
        in_gateway=True,
        in_key=False,
    )


def unknown(id: str, **fields: Any) -> KeptEntry:
    """The entry of an unknown charge, with its record."""
    of = purchase(id, **fields)
    return KeptEntry(**asdict(charged_entry(of)), purchase=of)


def refund(id: str, **fields: Any) -> KeptEntry:
    """The entry of a refund."""
    of = replace(purchase(id, **fields), state="refunded", refunded=REFUNDED)
    free = {"outcome": "failed", "images_bought": 0, "images_unknown": 0, "cost": 0}
    return KeptEntry(**{**asdict(charged_entry(of)), **free}, purchase=of)


async def put(store: Store, name: str, account: Account) -> None:
    """Write an account over any earlier state."""
    ((_, version),) = (await store.accounts.load([name])).accounts
    assert await store.accounts.swap([Change(name, version, account)], [])


async def images(store: Store, name: str) -> int:
    """Return how many images an account has spent today."""
    ((account, _),) = (await store.accounts.load([name])).accounts
    return account.day.images


async def refused(store: Store) -> str:
    """Return why a store answers neither a read nor a write."""
    for work in (store.accounts.load(["a"]), store.accounts.swap([Change("a", 1, spent(6))], [])):
        with pytest.raises(StoreUnavailable) as unavailable:
            await work
    return str(unavailable.value.__cause__)


async def comes_back(store: Store, seconds: float = 20) -> None:
    """Wait until a store answers again after an outage."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await store.accounts.load([])
                return
            except StoreUnavailable:
                await asyncio.sleep(0.02)


async def spend(
    store: Store, name: str, id: str, chance: random.Random, *, at: float = NOON
) -> None:
    """Add one image to an account, with an entry; like the ledger, retry until the swap wins."""
    while True:
        ((account, version),) = (await store.accounts.load([name])).accounts
        more = replace(account, day=PeriodUsage(PERIOD, account.day.images + 1))
        if await store.accounts.swap([Change(name, version, more)], [entry(id, at=at)]):
            return
        await asyncio.sleep(chance.random() * 0.005)
