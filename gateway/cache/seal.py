"""The seal on answers in a cache that others may write to: HMAC-SHA256 under a key of the pepper's.

Whoever can write to the Redis, but does not know the pepper, can put no picture before a team. And
gateways of different stores that share one tell their answers apart, though their teams have the
same names: what they keep has other names.
"""

import hmac

SEAL_BYTES = 32

_MARK_DIGITS = 12


class Seal:
    """What the gateways of one store seal with. `mark` tells it from that of other stores."""

    def __init__(self, pepper: bytes) -> None:
        self._key = hmac.digest(pepper, b"cache", "sha256")
        self.mark = hmac.digest(self._key, b"mark", "sha256").hex()[:_MARK_DIGITS]

    def sealed(self, record: bytes) -> bytes:
        """The record behind its seal. It takes a millisecond for each 1.5 MB."""
        return hmac.digest(self._key, record, "sha256") + record

    def opened(self, data: bytes) -> memoryview | None:
        """The record behind a seal; None where the seal is not of its gateways. As slow."""
        seal, record = data[:SEAL_BYTES], memoryview(data)[SEAL_BYTES:]
        right = hmac.digest(self._key, record, "sha256")
        return record if hmac.compare_digest(seal, right) else None
