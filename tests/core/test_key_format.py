"""Keys: created with enough entropy, recognised without a store, and verified without a hint."""

import random
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.key_format import (
    SECRET_BYTES,
    Verdict,
    digest,
    mint,
    normal_id,
    parse,
    parse_duration,
    pepper_check,
    verify,
)
from gateway.core.model import Key, KeyState

PEPPER = b"p" * 32
NOW = 1_750_000_000.0
ID, TEXT = mint(random.Random(1).randbytes)
KEY = Key(id=ID, team="team", name="", digest=digest(TEXT, PEPPER), created=NOW)

entropies = st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes)


# -- the text of a key --------------------------------------------------------------------------


@given(entropies)
@example(lambda size: bytes(size))
@example(lambda size: b"\xff" * size)
def test_a_minted_key_is_parsed(entropy: Callable[[int], bytes]) -> None:
    id, text = mint(entropy)
    assert re.fullmatch(r"sk-gw-[0-9a-hjkmnp-tv-z]{12}_[0-9A-Za-z]{35}", text)
    assert text.startswith(f"sk-gw-{id}_")
    assert parse(text) == id


def test_each_bit_of_entropy_counts() -> None:
    def minted(flipped: int | None) -> str:
        def entropy(size: int) -> bytes:
            number = 0 if flipped is None or size != SECRET_BYTES else 1 << flipped
            return number.to_bytes(size)

        return mint(entropy)[1]

    assert len({minted(bit) for bit in (None, *range(SECRET_BYTES * 8))}) == SECRET_BYTES * 8 + 1
    assert SECRET_BYTES * 8 >= 160


@pytest.mark.parametrize(
    "token",
    [
        *("", ID, f"sk-gw-{ID}", "sk-proj-abcdef", TEXT[:-1], TEXT + "0", TEXT + "\n"),
        *(TEXT.swapcase(), TEXT.replace("sk-gw", "sk_gw"), "x" * 8192),
        *(TEXT[:20] + character + TEXT[21:] for character in "\u00e9\udc80"),
    ],
)
def test_other_text_is_not_parsed(token: str) -> None:
    assert parse(token) is None


def test_mistyped_and_swapped_characters_are_detected() -> None:
    for place in range(len(TEXT)):
        start, end = TEXT[:place], TEXT[place + 1 :]
        swapped = start + end[:1] + TEXT[place] + end[1:]
        for mistyped in (swapped, *(start + letter + end for letter in "0aZ")):
            assert parse(mistyped) == (ID if mistyped == TEXT else None)


@given(st.text(max_size=60))
def test_any_text_can_be_parsed(token: str) -> None:
    assert parse(token) is None


# -- verifying ----------------------------------------------------------------------------------


def test_a_digest_depends_on_key_and_pepper() -> None:
    _, other = mint(random.Random(2).randbytes)
    digests = {digest(text, pepper) for text in (TEXT, other) for pepper in (PEPPER, b"q" * 32)}
    assert len(digests) == 4
    assert all(len(value) == 32 for value in digests)


def with_other_secret() -> str:
    """A well-formed key with this id and another secret: a forgery with the right checksum."""
    answers = iter((random.Random(1).randbytes(8), random.Random(3).randbytes(SECRET_BYTES)))
    id, text = mint(lambda size: next(answers))
    assert id == ID
    return text


@pytest.mark.parametrize(
    ("state", "expires", "grace_ends", "verdict"),
    [
        ("active", None, None, "ok"),
        ("active", NOW + 0.001, None, "ok"),
        ("active", NOW, None, "invalid"),
        ("disabled", None, None, "disabled"),
        ("disabled", NOW, None, "invalid"),
        ("revoked", None, None, "invalid"),
        ("active", None, NOW + 0.001, "ok"),
        ("active", None, NOW, "invalid"),
        ("active", NOW + 9, NOW, "invalid"),
        ("active", NOW, NOW + 9, "invalid"),
        ("active", NOW + 9, NOW + 9, "ok"),
    ],
)
def test_verify(
    state: KeyState, expires: float | None, grace_ends: float | None, verdict: Verdict
) -> None:
    stored = replace(KEY, state=state, expires=expires, grace_ends=grace_ends)
    assert verify(TEXT, stored, PEPPER, NOW) == verdict
    assert verify(with_other_secret(), stored, PEPPER, NOW) == "invalid"
    assert verify(TEXT, stored, b"another pepper", NOW) == "invalid"


def test_an_unknown_key_is_invalid() -> None:
    assert verify(TEXT, None, PEPPER, NOW) == "invalid"


@pytest.mark.parametrize("kept", [b"", bytes(32), digest(TEXT, PEPPER)[:-1], TEXT.encode()])
def test_only_the_whole_digest_verifies(kept: bytes) -> None:
    assert verify(TEXT, replace(KEY, digest=kept), PEPPER, NOW) == "invalid"


def test_the_pepper_check_distinguishes_peppers_and_is_no_keys_digest() -> None:
    assert len({pepper_check(PEPPER), pepper_check(b"q" * 32), PEPPER, digest(TEXT, PEPPER)}) == 4
    assert pepper_check(PEPPER) == pepper_check(bytes(PEPPER))


# -- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "id"),
    [("abc", "abc"), ("sk-gw-abc", "abc"), (" sk-gw-abc\n", "abc"), (TEXT, ID), ("", "")],
)
def test_normal_id(text: str, id: str) -> None:
    assert normal_id(text) == id


@pytest.mark.parametrize(
    ("text", "none", "seconds"),
    [
        *(("45s", False, 45.0), ("30m", False, 1800.0), ("24h", False, 86_400.0)),
        *(("90d", False, 7_776_000.0), ("01d", False, 86_400.0)),
        *(("0s", True, 0.0), ("00d", True, 0.0), ("7d", True, 604_800.0)),
    ],
)
def test_parse_duration(text: str, none: bool, seconds: float) -> None:
    assert parse_duration(text, none=none) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "d", "90", "0d", "-1d", "1.5h", "1 d", " 1d", "1d\n", "1D", "1w", "1d12h"),
        *("1_000s", "1000000d", "\u0663d", "never"),
    ],
)
def test_parse_duration_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="whole number with its unit"):
        parse_duration(text)
