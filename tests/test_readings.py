"""Remembered readings: the same bytes are read once, and nothing but the same bytes."""

import pytest
from msgspec.structs import replace

from gateway.errors import InvalidRequest
from gateway.readings import MOST_BYTES, REMEMBERED, Readings
from gateway.rules.config import read_settings
from gateway.rules.settings import Settings

BODY = b'{"prompt":"a red apple","user":"one"}'


@pytest.fixture
def settings() -> Settings:
    return read_settings("", {})[0]


def test_the_same_bytes_are_read_once(settings: Settings) -> None:
    readings = Readings(settings)
    first = readings.read(BODY, "red")
    assert readings.read(bytes(bytearray(BODY)), "red") is first
    assert readings.read(BODY + b" ", "red") is not first
    assert readings.read(BODY + b" ", "red") == first


def test_teams_stay_apart_unless_they_share(settings: Settings) -> None:
    readings = Readings(settings)
    red, blue = readings.read(BODY, "red"), readings.read(BODY, "blue")
    assert red.fingerprint != blue.fingerprint
    assert readings.read(BODY, "red").fingerprint == red.fingerprint
    shared = Readings(replace(settings, cache=replace(settings.cache, scope="shared")))
    assert shared.read(BODY, "red") is shared.read(BODY, "blue")


def test_another_configuration_reads_anew(settings: Settings) -> None:
    other = replace(settings, cache=replace(settings.cache, ignore_fields=()))
    mine, theirs = Readings(settings).read(BODY, "red"), Readings(other).read(BODY, "red")
    assert mine.request == theirs.request
    assert mine.fingerprint != theirs.fingerprint


def test_faults_are_told_each_time_anew(settings: Settings) -> None:
    readings, errors = Readings(settings), []
    for _ in range(2):
        with pytest.raises(InvalidRequest) as error:
            readings.read(b'{"prompt":""}', "red")
        errors.append(error.value)
    assert errors[0] is not errors[1]


def test_long_bodies_and_those_long_ago_are_not_remembered(settings: Settings) -> None:
    readings = Readings(settings)
    long = b'{"prompt":"%s"}' % (b"x" * MOST_BYTES)
    assert readings.read(long, "red") is not readings.read(long, "red")
    assert readings.read(long, "red") == readings.read(long, "red")
    first = readings.read(BODY, "red")
    for number in range(REMEMBERED):
        readings.read(b'{"prompt":"%d"}' % number, "red")
    assert readings.read(BODY, "red") is not first
