"""Admin tokens: drawn, kept as digests, found again, and read from the configuration."""

import secrets

import pytest

from gateway.config.admin_tokens import AdminToken, digest, find, is_name, mint, toml_block
from gateway.config.load import read_settings
from gateway.core.faults import ConfigError
from gateway.core.headers import bearer

DIGEST = "ab" * 32


def test_a_token_is_long_and_fits_a_header() -> None:
    token = mint(secrets.token_bytes)
    assert len(token) > 64
    assert bearer([f"Bearer {token}"]) == token
    assert mint(secrets.token_bytes) != token


def test_only_the_very_token_is_found() -> None:
    tokens = {name: mint(secrets.token_bytes) for name in ("first", "second", "third")}
    known = [AdminToken(name=name, role="viewer", digest=digest(t)) for name, t in tokens.items()]
    for position, token in enumerate(tokens.values()):
        assert find(token, known) == known[position]
        assert find(token[:-1], known) is None
        assert find(token.upper(), known) is None
    assert find("", known) is None
    assert find(tokens["first"], []) is None


def test_the_printed_block_is_valid_configuration() -> None:
    token = mint(secrets.token_bytes)
    block = toml_block("on.call", "viewer", token)
    assert token not in block
    settings, _ = read_settings(block, {})
    assert find(token, settings.admin.all_tokens) == settings.admin.tokens["on.call"]
    assert settings.admin.tokens["on.call"].role == "viewer"


RIGHT = f'role = "admin"\nsha256 = "{DIGEST}"'


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (f'[a]\nrole = "owner"\nsha256 = "{DIGEST}"', '.a] role: must be "admin" or "viewer"'),
        ('[a]\nrole = "admin"', ".a] sha256: is needed"),
        ('[a]\nrole = "admin"\nsha256 = "abc"', ".a] sha256: must be 64 hexadecimal digits"),
        (f"[a]\nrol = 1\n{RIGHT}", ".a] rol: no such option; did you mean 'role'?"),
        (f"[-a]\n{RIGHT}", "] -a: a token's name must have"),
    ],
    ids=["role", "no digest", "digest", "option", "name"],
)
def test_faults_name_their_place(table: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(table.replace("[", "[admin.tokens.", 1), {}, file="f")
    assert str(raised.value.faults[0]).startswith(f"f: [admin.tokens{fault}")


@pytest.mark.parametrize("table", ["[admin]\ntokens = 3", "[admin.tokens]\na = 3"])
def test_tokens_are_tables(table: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a table"):
        read_settings(table, {})


@pytest.mark.parametrize("name", ["", "-a", "a b", "ä", "x" * 65, "admin"])
def test_some_names_are_no_names(name: str) -> None:
    assert not is_name(name)
