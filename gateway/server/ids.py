"""Ids of requests, purchases and events."""

import random
import secrets

_ids = random.Random(secrets.randbits(256))  # noqa: S311 - the system's own source takes 5 µs
"""The source of ids. Ids are no secrets, but no two may be equal, here or in another process."""


def new_id() -> str:
    """A unique id: 128 random bits as 32 hexadecimal digits."""
    return f"{_ids.getrandbits(128):032x}"
