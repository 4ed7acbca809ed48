"""The names of operations: what clients may send, and what the store learns of it."""

import pytest

from gateway.core.errors import InvalidRequest
from gateway.proxy.operation_name import (
    MOST_CHARS,
    key_id,
    operation_name,
    prefers_async,
    read_idempotency_key,
)


@pytest.mark.parametrize(
    "key", ["k", "k" * MOST_CHARS, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "ü"]
)
def test_printable_keys_are_read(key: str) -> None:
    assert read_idempotency_key([f" {key} "]) == key


def test_without_the_header_there_is_no_key() -> None:
    assert read_idempotency_key([]) is None


@pytest.mark.parametrize(
    "values",
    [
        [""],
        [" "],
        ["k" * (MOST_CHARS + 1)],
        ["a\tb"],
        ["a\x00b"],
        ["caf\udce9"],
        ["key one", "key two"],
    ],
)
def test_anything_else_is_refused_without_an_echo(values: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_idempotency_key(values)
    assert (refused.value.status, refused.value.code) == (400, "invalid_idempotency_key")
    assert refused.value.param is None
    assert values[0].strip() == "" or values[0] not in refused.value.message


def test_names_differ_by_team_and_after_a_purge_by_their_answers() -> None:
    one = operation_name(key_id("k"), "red", "red", "d")
    other = operation_name(key_id("k"), "blue", "blue", "d")
    purged = operation_name(key_id("k"), "red", "red#1", "d")
    assert one.record != other.record
    assert one.answer != other.answer
    assert purged.record == one.record
    assert purged.answer != one.answer
    assert key_id("k") != key_id("K")


@pytest.mark.parametrize(
    "values",
    [
        ["respond-async"],
        ["Respond-Async"],
        ["return=minimal, respond-async; wait=10"],
        ["wait=10", " respond-async "],
    ],
)
def test_a_client_may_prefer_to_ask_later(values: list[str]) -> None:
    assert prefers_async(values)


@pytest.mark.parametrize(
    "values",
    [[], [""], ["respond-async=x"], ["wait=10"], ["x;respond-async"], ["respond-async," * 999]],
)
def test_other_preferences_are_ignored(values: list[str]) -> None:
    assert not prefers_async(values)
