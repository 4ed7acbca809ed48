"""Every test runs on each kind of store."""

import pytest

from tests.conformance.store import MakeStore
from tests.support.stores import KINDS, Places


@pytest.fixture(params=KINDS)
def make_store(request: pytest.FixtureRequest, places: Places) -> MakeStore:
    return places.new(request.param)


@pytest.fixture
def make_empty_store(request: pytest.FixtureRequest, places: Places) -> MakeStore:
    """Stores of the same kind as `make_store`, on other data."""
    return places.new(request.node.callspec.params["make_store"])
