"""Remembered readings: the same bytes are read once, and nothing but the same bytes."""

import pytest
from msgspec.structs import replace

from gateway.config.load import read_settings
from gateway.config.settings import Settings
from gateway.core.errors import InvalidRequest
from gateway.core.model import Team
from gateway.proxy.request_memo import MOST_BYTES, REMEMBERED, Readings

BODY = b'{"prompt":"a red apple","user":"one"}'
RED, BLUE = Team(name="red"), Team(name="blue")


@pytest.fixture
def settings() -> Settings:
    return read_settings("", {})[0]


def test_the_same_bytes_are_read_once(settings: Settings) -> None:
    readings = Readings(settings)
    first = readings.read(BODY, RED)
    assert readings.read(bytes(bytearray(BODY)), RED) is first
    assert readings.read(BODY + b" ", RED) is not first
    assert readings.read(BODY + b" ", RED) == first


def test_teams_stay_apart_unless_they_share(settings: Settings) -> None:
    readings = Readings(settings)
    red, blue = readings.read(BODY, RED), readings.read(BODY, BLUE)
    assert red.fingerprint != blue.fingerprint
    assert readings.read(BODY, RED).fingerprint == red.fingerprint
    shared = Readings(replace(settings, cache=replace(settings.cache, scope="shared")))
    assert shared.read(BODY, RED) is shared.read(BODY, BLUE)


def test_an_emptied_cache_is_not_read_again(settings: Settings) -> None:
    readings = Readings(settings)
    before = readings.read(BODY, RED)
    after = readings.read(BODY, replace(RED, purged=1))
    assert after.request == before.request
    assert after.fingerprint != before.fingerprint
    assert readings.read(BODY, replace(RED, purged=1)) is after


def test_another_configuration_reads_anew(settings: Settings) -> None:
    other = replace(settings, cache=replace(settings.cache, ignore_fields=()))
    mine, theirs = Readings(settings).read(BODY, RED), Readings(other).read(BODY, RED)
    assert mine.request == theirs.request
    assert mine.fingerprint != theirs.fingerprint


def test_faults_are_told_each_time_anew(settings: Settings) -> None:
    readings, errors = Readings(settings), []
    for _ in range(2):
        with pytest.raises(InvalidRequest) as error:
            readings.read(b'{"prompt":""}', RED)
        errors.append(error.value)
    assert errors[0] is not errors[1]


def test_long_bodies_and_those_long_ago_are_not_remembered(settings: Settings) -> None:
    readings = Readings(settings)
    long = b'{"prompt":"%s"}' % (b"x" * MOST_BYTES)
    assert readings.read(long, RED) is not readings.read(long, RED)
    assert readings.read(long, RED) == readings.read(long, RED)
    first = readings.read(BODY, RED)
    for number in range(REMEMBERED):
        readings.read(b'{"prompt":"%d"}' % number, RED)
    assert readings.read(BODY, RED) is not first
