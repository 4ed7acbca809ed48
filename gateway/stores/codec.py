"""Encodes accounts, teams, keys and limits, the same in every store.

An account is msgpack without field names, because it is written at every purchase. A new field
goes at the end of its struct, with a default; any other change needs a new schema version. Teams,
keys and limits are JSON with field names, so that an operator can read them in the store.

Decoding raises `msgspec.DecodeError` (ValidationError is one): damaged bytes must never become an
empty account.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from gateway.core.model import Key, Limits, Team
from gateway.quota.account import Account

S = TypeVar("S", bound=msgspec.Struct)

encode_account = msgspec.msgpack.Encoder().encode
decode_account = msgspec.msgpack.Decoder(Account).decode

decode_team = msgspec.json.Decoder(Team).decode
decode_key = msgspec.json.Decoder(Key).decode
decode_limits = msgspec.json.Decoder(Limits).decode


def encode_json(value: Team | Key | Limits) -> str:
    """Encode a team, a key or limits as JSON; a key's digest in base64."""
    return msgspec.json.encode(value).decode()


def from_values(kind: type[S], values: Iterable[object]) -> S:
    """Return a struct of this kind, from the values of all its fields in their order."""
    return kind(**dict(zip(kind.__struct_fields__, values, strict=True)))
