"""Admin tokens: their roles, and how they are created, checked and written in gateway.toml.

One token comes from the environment (GATEWAY_ADMIN_TOKEN). Further ones have a name and are in the
configuration as `[admin.tokens.NAME]`, with a role and the SHA-256 of the token, never the token.
A plain SHA-256 is enough: `mint` draws 256 bits, which cannot be guessed.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.options import is_table, options_of, read_table
from gateway.config.values import NAME, NAME_RULE
from gateway.core.faults import Faults
from gateway.core.secret import Secret

Role = Literal["admin", "viewer"]
"""A viewer may only read; an admin may also change things."""

PREFIX = "gw-admin-"
TOKEN_BYTES = 32
SHORTEST = 16
LONGEST = 200
"""Characters of a token that an operator chose."""

ENVIRONMENT = "admin"
"""The name of the token from the environment. No other token may have it."""

_MINTED = re.compile(rf"{PREFIX}[0-9a-f]{{{2 * TOKEN_BYTES}}}")
# A Bearer header can carry printable ASCII without spaces, quotes and commas.
_CHOSEN = re.compile(rf"[!#-&(-+\-.-~]{{{SHORTEST},{LONGEST}}}")


class AdminToken(Struct, frozen=True, kw_only=True):
    """A token that the gateway accepts. `digest` is the SHA-256 of its text, 32 bytes."""

    name: str
    role: Role
    digest: bytes


class TokenOptions(Struct, frozen=True, kw_only=True):
    """A further admin token. "gateway admin token NAME" creates one and prints this table.

    Options:
        role: A viewer may only read; an admin may also change things.
        sha256: SHA-256 of the token, as "gateway admin token NAME" prints it.
    """

    role: Role
    sha256: Annotated[
        str, Meta(pattern=r"\A[0-9a-f]{64}\Z", description="64 hexadecimal digits in lower case")
    ]


_OPTIONS = options_of(TokenOptions)


def mint(entropy: Callable[[int], bytes]) -> str:
    """Return a new token. `entropy` returns that many random bytes."""
    return PREFIX + entropy(TOKEN_BYTES).hex()


def is_minted(text: str) -> bool:
    """Whether the text has the form of a token that `mint` returned."""
    return _MINTED.fullmatch(text) is not None


def check_chosen_token(secret: Secret) -> None:
    """Refuse a token that is too short or long, or that a Bearer header cannot carry."""
    if _CHOSEN.fullmatch(secret.reveal()) is None:
        raise ValueError("not a token")


def digest(token: str) -> bytes:
    """Return the SHA-256 of a token, 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


def is_name(text: str) -> bool:
    """Whether a further token may have this name."""
    return NAME.fullmatch(text) is not None and text != ENVIRONMENT


def find(token: str, known: Iterable[AdminToken]) -> AdminToken | None:
    """Return the known token with this text.

    All known tokens are compared, each in constant time, so that timing reveals nothing.
    """
    given, found = digest(token), None
    for candidate in known:
        if hmac.compare_digest(given, candidate.digest) and found is None:
            found = candidate
    return found


def toml_block(name: str, role: Role, token: str) -> str:
    """Return the lines that an operator puts into gateway.toml for a token."""
    return f'[admin.tokens."{name}"]\nrole = "{role}"\nsha256 = "{digest(token).hex()}"'


def read_tokens(table: object, faults: Faults) -> Mapping[str, AdminToken]:
    """Return the valid tokens of [admin.tokens] by name."""
    tokens = dict[str, AdminToken]()
    if not is_table(table, faults):
        return tokens
    for name, options in table.items():
        before, here = len(faults), faults.at(name)
        if not is_name(name):
            here.add(f'a token\'s name {NAME_RULE}; "{ENVIRONMENT}" is taken')
        values = read_table(options, _OPTIONS, here)
        if len(faults) == before:
            sha256 = bytes.fromhex(values["sha256"])
            tokens[name] = AdminToken(name=name, role=values["role"], digest=sha256)
    return tokens
