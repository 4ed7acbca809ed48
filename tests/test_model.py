"""The values' own shape: frozen, and limits that know whether there are any."""

import pytest

from gateway.model import NO_LIMITS, Limits, Team


def test_limits_are_true_where_at_least_one_is_set() -> None:
    assert not NO_LIMITS
    assert not Limits()
    assert Limits(images_per_day=0)
    assert all(Limits(**{name: 1}) for name in Limits.__struct_fields__)


def test_values_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Team(name="red").name = "blue"  # type: ignore[misc]
