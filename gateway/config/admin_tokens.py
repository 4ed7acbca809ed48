"""Admin tokens: who may look at the gateway's insides, and who may change them.

One stands in the environment (GATEWAY_ADMIN_TOKEN). Further ones have a name and stand in the
configuration as `[admin.tokens.NAME]` with a role and the SHA-256 of the token, never the token.
A plain SHA-256 is enough: `mint` draws 256 bits, which cannot be tried through.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.config.options import options_of, read_table
from gateway.core.faults import Faults

Role = Literal["admin", "viewer"]
"""A viewer may read, and an admin may change things too."""

PREFIX = "gw-admin-"
TOKEN_BYTES = 32
SHORTEST = 16
LONGEST = 200
"""Characters of a token that an operator chose."""

ENVIRONMENT = "admin"
"""The name of the token in the environment."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = (
    "a token's name has 1 to 64 letters, digits and . _ -, starts with a letter or digit and is "
    f'not "{ENVIRONMENT}"'
)
_MINTED = re.compile(rf"{PREFIX}[0-9a-f]{{{2 * TOKEN_BYTES}}}")
# What a bearer token may consist of: printable ASCII but for the blank, both quotes and the comma.
TOKEN_PATTERN = rf"[!#-&(-+\-.-~]{{{SHORTEST},{LONGEST}}}"


class AdminToken(Struct, frozen=True, kw_only=True):
    """A token as the gateway knows it. `digest` is the SHA-256 of its text, 32 bytes."""

    name: str
    role: Role
    digest: bytes


class TokenOptions(Struct, frozen=True, kw_only=True):
    """What stands in an [admin.tokens.NAME], as it is written."""

    role: Role
    sha256: Annotated[
        str, Meta(pattern=r"\A[0-9a-f]{64}\Z", description="64 hexadecimal digits in lower case")
    ]


_OPTIONS = options_of(TokenOptions)


def mint(entropy: Callable[[int], bytes]) -> str:
    """A new token. `entropy` gives that many random bytes."""
    return PREFIX + entropy(TOKEN_BYTES).hex()


def is_minted(text: str) -> bool:
    """Whether it looks like a token that `mint` made."""
    return _MINTED.fullmatch(text) is not None


def digest(token: str) -> bytes:
    """What is kept of a token: its SHA-256, 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


def is_name(text: str) -> bool:
    """Whether a token may be called so: 1 to 64 letters, digits and . _ -, no mark first."""
    return _NAME.fullmatch(text) is not None and text != ENVIRONMENT


def find(token: str, known: Iterable[AdminToken]) -> AdminToken | None:
    """The known token that this text is. All are compared, each in constant time."""
    given, found = digest(token), None
    for candidate in known:
        if hmac.compare_digest(given, candidate.digest) and found is None:
            found = candidate
    return found


def toml_block(name: str, role: Role, token: str) -> str:
    """What an operator puts into gateway.toml for a token."""
    return f'[admin.tokens."{name}"]\nrole = "{role}"\nsha256 = "{digest(token).hex()}"'


def read_tokens(table: object, faults: Faults) -> Mapping[str, AdminToken]:
    """Return the valid tokens of [admin.tokens] by name."""
    if not isinstance(table, dict):
        faults.add("must be a table")
        return {}
    tokens = {}
    for name, options in table.items():
        values = _read(name, options, faults.at(name))
        if values is not None:
            role, sha256 = values["role"], values["sha256"]
            tokens[name] = AdminToken(name=name, role=role, digest=bytes.fromhex(sha256))
    return tokens


def _read(name: str, table: object, faults: Faults) -> dict[str, Any] | None:
    before = len(faults)
    if not is_name(name):
        faults.add(NAME_RULE)
    values = read_table(table, _OPTIONS, faults)
    if isinstance(table, dict):
        for missing in [option for option in _OPTIONS if option not in table]:
            faults.add("is needed", missing)
    return values if len(faults) == before else None
