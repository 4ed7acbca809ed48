"""Messages to webhooks: the stable body, Slack's form, and the signature of Standard Webhooks."""

import json

import pytest

from gateway.config.webhooks import check_secret
from gateway.reporting.alerts.message import headers, message, signature
from gateway.reporting.alerts.rules import Alert

ALERT = Alert(
    event="budget_reached",
    mark=("red",),
    at=1_772_366_400.9,
    ends=1_772_409_600.0,
    text="Team red has used $8.1 of $10 for today (81 %).",
    team="red",
    limit="cost_per_day_usd",
    percent=80,
    used=8_100_000,
    limit_value=10_000_000,
    resets_at=1_772_409_600.0,
)


def test_the_generic_body() -> None:
    assert json.loads(message("json", ALERT, "msg_1")) == {
        "event": "budget_reached",
        "id": "msg_1",
        "at": "2026-03-01T12:00:00Z",
        "team": "red",
        "key": None,
        "limit": "cost_per_day_usd",
        "percent": 80,
        "used": "8.1",
        "limit_value": "10",
        "resets_at": "2026-03-02T00:00:00Z",
        "text": "Team red has used $8.1 of $10 for today (81 %).",
    }


def test_slacks_form_is_text_in_which_names_are_only_names() -> None:
    text = 'Key sk-gw-1 ("<!channel> & <https://evil|here> @all") of team red'
    body = json.loads(message("slack", Alert(event="test", mark=(), at=0, ends=0, text=text), "i"))
    assert body == {
        "text": 'Key sk-gw-1 ("&lt;!channel&gt; &amp; &lt;https://evil|here&gt; @\u200ball") '
        "of team red"
    }


def test_the_signature_is_that_of_the_conventions_own_example() -> None:
    secret = check_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    id, at, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, id, at, body) == expected
    assert headers(id, body, 1_614_265_330.7, secret)["webhook-signature"] == expected


@pytest.mark.parametrize("secret", [None, b"s" * 24])
def test_the_headers(secret: bytes | None) -> None:
    found = headers("msg_1", b"{}", 12.9, secret)
    assert found["Content-Type"] == "application/json"
    assert (found["webhook-id"], found["webhook-timestamp"]) == ("msg_1", "12")
    assert ("webhook-signature" in found) == (secret is not None)
