"""Remembered requests: the same bytes are read once, and nothing but the same bytes."""

import pytest
from msgspec.structs import replace

from gateway.config.settings import Settings
from gateway.core.errors import InvalidRequest
from gateway.core.model import Team
from gateway.proxy.request_memo import MOST_BYTES, MOST_REQUESTS, FingerprintedRequest, RequestMemo

BODY = b'{"prompt":"a red apple","user":"one"}'
RED, BLUE = Team(name="red"), Team(name="blue")
SETTINGS = Settings()


class Memo(RequestMemo):
    """A memo with default arguments."""

    def __call__(
        self, body: bytes = BODY, team: Team = RED, settings: Settings = SETTINGS
    ) -> FingerprintedRequest:
        return self.read(body, team, settings)


@pytest.fixture
def memo() -> Memo:
    return Memo(SETTINGS)


def test_the_same_bytes_are_read_once(memo: Memo) -> None:
    first = memo()
    assert memo(bytes(bytearray(BODY))) is first
    assert memo(BODY + b" ") is not first
    assert memo(BODY + b" ") == first
    assert first.labels == ("gpt-image-2", "1024x1024", "auto")


def test_teams_stay_apart_unless_they_share(memo: Memo) -> None:
    assert memo(team=RED).fingerprint != memo(team=BLUE).fingerprint
    shared = replace(SETTINGS, cache=replace(SETTINGS.cache, scope="shared"))
    assert memo(team=RED, settings=shared) is memo(team=BLUE, settings=shared)


def test_a_purge_and_new_settings_change_the_fingerprint(memo: Memo) -> None:
    before, after = memo(), memo(team=replace(RED, purged=1))
    changed = memo(settings=replace(SETTINGS, cache=replace(SETTINGS.cache, ignore_fields=())))
    assert before.request == after.request == changed.request
    assert len({before.fingerprint, after.fingerprint, changed.fingerprint}) == 3


def test_an_error_is_a_new_one_each_time(memo: Memo) -> None:
    with pytest.raises(InvalidRequest) as first:
        memo(b'{"prompt":""}')
    with pytest.raises(InvalidRequest) as second:
        memo(b'{"prompt":""}')
    assert first.value is not second.value


def test_long_bodies_and_those_used_long_ago_are_not_remembered(memo: Memo) -> None:
    long = b'{"prompt":"%s"}' % (b"x" * MOST_BYTES)
    assert memo(long) is not memo(long)
    assert memo(long) == memo(long)
    first = memo()
    for number in range(MOST_REQUESTS):
        memo(b'{"prompt":"%d"}' % number)
    assert memo() is not first
