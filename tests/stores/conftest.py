"""Stores on the data of one test: each folder's `make_store` opens them."""

from collections.abc import AsyncIterator

import pytest

from gateway.stores.port import Store
from tests.conformance.store import MakeStore


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    async with make_store() as store:
        yield store


@pytest.fixture
async def other(make_store: MakeStore) -> AsyncIterator[Store]:
    """A second store on the same data, as another gateway has it."""
    async with make_store() as store:
        yield store
