"""Encodes accounts, operations, teams, keys, limits and refusals, the same in every store.

Accounts and operations are msgpack without field names, because each purchase writes them. A new
field goes at the end of its struct, with a default; any other change needs a new schema version.
All else is JSON with field names, so that an operator can read it in the store.

Decoding raises `msgspec.DecodeError` (ValidationError is one): damaged bytes must never become an
empty account.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from gateway.core.model import Key, Limits, RefusedBy, Team
from gateway.quota.account import Account
from gateway.quota.operations import Operations

S = TypeVar("S", bound=msgspec.Struct)

encode_account = msgspec.msgpack.Encoder().encode
decode_account = msgspec.msgpack.Decoder(Account).decode
encode_operations = msgspec.msgpack.Encoder().encode
decode_operations = msgspec.msgpack.Decoder(Operations).decode

decode_team = msgspec.json.Decoder(Team).decode
decode_key = msgspec.json.Decoder(Key).decode
decode_limits = msgspec.json.Decoder(Limits).decode
decode_refused_by = msgspec.json.Decoder(RefusedBy).decode


def encode_json(value: Team | Key | Limits | RefusedBy) -> str:
    """Encode as JSON; a key's digest in base64."""
    return msgspec.json.encode(value).decode()


def from_values(kind: type[S], values: Iterable[object]) -> S:
    """Return a struct of this kind, from the values of all its fields in their order."""
    return kind(**dict(zip(kind.__struct_fields__, values, strict=True)))
