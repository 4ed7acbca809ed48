"""The seal on answers in a shared cache: HMAC-SHA256 with a key derived from the pepper.

Whoever can write to Redis but does not know the pepper cannot put an image in front of a team.
Gateways of different stores may share one Redis: their keys there differ, although their teams may
have the same names.
"""

import hmac

SEAL_BYTES = 32

_MARK_DIGITS = 12


class Seal:
    """The seal of one store's gateways. `mark` identifies the store in Redis keys."""

    def __init__(self, pepper: bytes) -> None:
        self._key = hmac.digest(pepper, b"cache", "sha256")
        self.mark = hmac.digest(self._key, b"mark", "sha256").hex()[:_MARK_DIGITS]

    def sealed(self, record: bytes) -> bytes:
        """The seal followed by the record. It takes a millisecond for each 1.5 MB."""
        return hmac.digest(self._key, record, "sha256") + record

    def opened(self, data: bytes) -> memoryview | None:
        """The record behind the seal; None if the seal is not this store's. As slow."""
        seal, record = data[:SEAL_BYTES], memoryview(data)[SEAL_BYTES:]
        right = hmac.digest(self._key, record, "sha256")
        return record if hmac.compare_digest(seal, right) else None
