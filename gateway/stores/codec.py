"""Accounts, teams, keys and their limits as bytes, the same in every store.

An account is msgpack without field names: it is written at every purchase. Fields may only be
added at its structs' ends, with a default; anything else needs a new schema version. Teams,
keys and limits are JSON with field names, so that an operator can read them in the store.

Reading raises `msgspec.DecodeError` (of which ValidationError is one): damaged bytes must never
become an empty account.
"""

import msgspec

from gateway.core.model import Key, Limits, Team
from gateway.quota.account import Account

_encode_account = msgspec.msgpack.Encoder()
_decode_account = msgspec.msgpack.Decoder(Account)
_encode_team = msgspec.json.Encoder()
_decode_team = msgspec.json.Decoder(Team)
_encode_key = msgspec.json.Encoder()
_decode_key = msgspec.json.Decoder(Key)
_encode_limits = msgspec.json.Encoder()
_decode_limits = msgspec.json.Decoder(Limits)


def encode_account(account: Account) -> bytes:
    """An account as bytes."""
    return _encode_account.encode(account)


def decode_account(state: bytes) -> Account:
    """The account that these bytes say. Raises msgspec.DecodeError."""
    return _decode_account.decode(state)


def encode_team(team: Team) -> str:
    """A team as JSON text."""
    return _encode_team.encode(team).decode()


def decode_team(text: str | bytes) -> Team:
    """The team that this JSON says. Raises msgspec.DecodeError."""
    return _decode_team.decode(text)


def encode_key(key: Key) -> str:
    """A key as JSON text, its digest in base64."""
    return _encode_key.encode(key).decode()


def decode_key(text: str | bytes) -> Key:
    """The key that this JSON says. Raises msgspec.DecodeError."""
    return _decode_key.decode(text)


def encode_limits(limits: Limits) -> str:
    """Limits as JSON text."""
    return _encode_limits.encode(limits).decode()


def decode_limits(text: str | bytes) -> Limits:
    """The limits that this JSON says. Raises msgspec.DecodeError."""
    return _decode_limits.decode(text)
