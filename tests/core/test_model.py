"""Properties of limits, keys and teams."""

import pytest
from msgspec.structs import replace

from gateway.core.model import NO_LIMITS, Key, Limits

KEY = Key(id="k1", team="red", name="", digest=b"", created=0.0)


def test_limits_are_true_if_at_least_one_is_set() -> None:
    assert not NO_LIMITS
    assert not Limits()
    assert Limits(images_per_day=0)
    assert all(Limits(**{name: 1}) for name in Limits.__struct_fields__)


@pytest.mark.parametrize(
    ("expires", "grace_ends", "ends"),
    [(None, None, None), (5.0, None, 5.0), (None, 3.0, 3.0), (5.0, 3.0, 3.0), (2.0, 3.0, 2.0)],
)
def test_a_key_ends_at_its_own_time_or_when_its_grace_does(
    expires: float | None, grace_ends: float | None, ends: float | None
) -> None:
    assert replace(KEY, expires=expires, grace_ends=grace_ends).ends == ends


def test_a_line_of_keys_has_the_name_of_its_first_key() -> None:
    assert KEY.line == "k1"
    assert replace(KEY, id="k2", first="k1").line == "k1"
