"""Encodes accounts, teams, keys and limits, the same in every store.

An account is msgpack without field names, because it is written at every purchase. A new field
goes at the end of its struct, with a default; any other change needs a new schema version. Teams,
keys and limits are JSON with field names, so that an operator can read them in the store.

Decoding raises `msgspec.DecodeError` (ValidationError is one): damaged bytes must never become an
empty account.
"""

import msgspec

from gateway.core.model import Key, Limits, Team
from gateway.quota.account import Account

_encode_account = msgspec.msgpack.Encoder()
_decode_account = msgspec.msgpack.Decoder(Account)
_encode_json = msgspec.json.Encoder()
_decode_team = msgspec.json.Decoder(Team)
_decode_key = msgspec.json.Decoder(Key)
_decode_limits = msgspec.json.Decoder(Limits)


def encode_account(account: Account) -> bytes:
    """Encode an account."""
    return _encode_account.encode(account)


def decode_account(state: bytes) -> Account:
    """Decode an account. Raises msgspec.DecodeError."""
    return _decode_account.decode(state)


def encode_team(team: Team) -> str:
    """Encode a team as JSON."""
    return _encode_json.encode(team).decode()


def decode_team(text: str | bytes) -> Team:
    """Decode a team. Raises msgspec.DecodeError."""
    return _decode_team.decode(text)


def encode_key(key: Key) -> str:
    """Encode a key as JSON, its digest in base64."""
    return _encode_json.encode(key).decode()


def decode_key(text: str | bytes) -> Key:
    """Decode a key. Raises msgspec.DecodeError."""
    return _decode_key.decode(text)


def encode_limits(limits: Limits) -> str:
    """Encode limits as JSON."""
    return _encode_json.encode(limits).decode()


def decode_limits(text: str | bytes) -> Limits:
    """Decode limits. Raises msgspec.DecodeError."""
    return _decode_limits.decode(text)
