"""Keys in their public form."""

import json

import pytest
from msgspec.structs import replace

from gateway.core.listing import listing
from gateway.core.model import Key, KeyState, Limits
from gateway.core.periods import utc
from gateway.tenants.views import key_view

CREATED = 1_700_000_000.0


def key(
    state: KeyState = "active", expires: float | None = None, grace_ends: float | None = None
) -> Key:
    return Key(
        id="0123456789ab",
        team="design",
        name="Web shop",
        digest=b"\x01" * 32,
        created=CREATED,
        expires=expires,
        state=state,
        limits=Limits(images_per_month=7, cost_per_day=500_000),
        grace_ends=grace_ends,
    )


def test_a_key_is_shown_without_its_digest() -> None:
    view = listing(key_view(key(expires=CREATED + 60), CREATED, CREATED + 5))
    assert view == {
        "id": "sk-gw-0123456789ab",
        "team": "design",
        "name": "Web shop",
        "state": "active",
        "created": "2023-11-14T22:13:20Z",
        "expires": "2023-11-14T22:14:20Z",
        "limits": {
            "images_per_day": None,
            "images_per_month": 7,
            "cost_per_day_usd": "0.5",
            "cost_per_month_usd": None,
            "requests_per_minute": None,
            "concurrent_requests": None,
        },
        "grace_ends": None,
        "last_used": "2023-11-14T22:13:25Z",
        "line": "sk-gw-0123456789ab",
    }
    assert json.loads(json.dumps(view)) == view


@pytest.mark.parametrize(
    ("state", "expires", "grace_ends", "shown"),
    [
        ("active", None, None, "active"),
        ("active", CREATED + 1, None, "active"),
        ("active", CREATED, None, "expired"),
        ("disabled", CREATED, None, "expired"),
        ("disabled", None, None, "disabled"),
        ("revoked", CREATED, None, "revoked"),
        ("active", None, CREATED + 1, "retiring"),
        ("active", None, CREATED, "expired"),
        ("active", CREATED, CREATED + 1, "expired"),
        ("disabled", None, CREATED + 1, "disabled"),
        ("revoked", None, CREATED, "revoked"),
    ],
)
def test_the_shown_state_follows_expiry_and_grace(
    state: KeyState, expires: float | None, grace_ends: float | None, shown: str
) -> None:
    view = listing(key_view(key(state, expires, grace_ends), CREATED))
    assert (view["state"], view["last_used"]) == (shown, None)
    assert view["grace_ends"] == (None if grace_ends is None else utc(grace_ends))


def test_a_successor_shows_the_line_of_its_predecessor() -> None:
    view = listing(key_view(replace(key(), first="0123456789ac"), CREATED))
    assert (view["id"], view["line"]) == ("sk-gw-0123456789ab", "sk-gw-0123456789ac")


def test_times_are_cut_off_to_the_second() -> None:
    assert utc(0.999_999_9) == "1970-01-01T00:00:00Z"
