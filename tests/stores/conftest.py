"""Stores on the data of one test: each folder's `make_store` opens them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.stores.port import Store
from tests.conformance.store import MakeStore
from tests.support.redis import running_redis
from tests.support.stores import DATABASES, Places


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def places(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Places]:
    """Empty data on one server for all tests that neither stop nor change it."""
    folder = tmp_path_factory.mktemp("places")
    async with running_redis(folder, databases=str(DATABASES)) as server:
        yield Places(folder, server)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    async with make_store() as store:
        yield store


@pytest.fixture
async def other(make_store: MakeStore) -> AsyncIterator[Store]:
    """A second store on the same data, as another gateway has it."""
    async with make_store() as store:
        yield store
