"""Signed links to pictures in the image store: who has the link may read the picture, for a while.

A link is made for each answer and never cached. Its signature covers the picture's name and the
link's end, with a key derived from the pepper: all gateways of a store accept each other's links.
"""

import hmac
import re

PATH = "/v1/images/files"

_EXP = re.compile(r"[0-9]{1,12}", re.ASCII)


class Links:
    """Makes and checks the links of one store's gateways."""

    def __init__(self, pepper: bytes) -> None:
        self._key = hmac.digest(pepper, b"picture links", "sha256")

    def link(self, base: str, name: str, until: float) -> str:
        """Return the URL of a picture below `base`, which works until then."""
        exp = str(int(until))
        return f"{base}{PATH}/{name}?exp={exp}&sig={self._signature(name, exp)}"

    def end(self, name: str, exp: str, sig: str) -> float | None:
        """Return when this link ends, None if no gateway of this store made it."""
        if _EXP.fullmatch(exp) is None or not sig.isascii():
            return None
        if not hmac.compare_digest(self._signature(name, exp), sig):
            return None
        return float(exp)

    def _signature(self, name: str, exp: str) -> str:
        return hmac.digest(self._key, f"{name}?{exp}".encode(), "sha256").hex()
