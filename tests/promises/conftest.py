"""Gateway processes that files share: one start for each store."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.replicas import STORES, Replicas, running_replicas
from tests.support.rig import FLAT
from tests.support.steps import drawing


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=STORES)
async def replicas(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Replicas]:
    """Gateways that share a store, before an upstream that takes a tenth of a second."""
    folder = tmp_path_factory.mktemp("replicas")
    quick = drawing(latency=0.1)
    async with running_replicas(folder, FLAT, quick, store=request.param) as running:
        yield running
