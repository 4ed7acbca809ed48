"""Taking secrets out of text that somebody else wrote, such as the upstream's error bodies.

An upstream may repeat the key it was sent, whole or in part ("Incorrect API key: sk-ab..."), and
an attacker behind it may write it otherwise. Whatever shares 8 bytes in a row with a secret goes,
in any case of letters, and with its hexadecimal digits or its base64 (both alphabets, and
wherever in the encoded text it begins); so does all that looks like a key of any kind, known or
not. In doubt too much is taken out: a garbled error harms nobody.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from math import ceil

REDACTED = b"[redacted]"

RUN = 8
"""Bytes in a row that count as a part of a secret. A secret shorter than that is sought whole."""

# A short "sk-" key must begin a word, or "risk-assessment" would be one. A long one need not:
# in JSON the letter of an escape ("\n") may stand right before it.
_KEY_LIKE = re.compile(
    rb"(?i:bearer)[ :]+[^\s\"',\\]+"
    rb"|(?<![A-Za-z0-9])sk-[A-Za-z0-9_*-]{4,}"
    rb"|sk-[A-Za-z0-9_*-]{20,}"
)

_ONE_ALPHABET = bytes.maketrans(b"-_", b"+/")


class Scrubber:
    """What takes every trace of these secrets out of texts."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._short = [secret for secret in secrets if 0 < len(secret) < RUN]
        forms = (_levelled(form) for secret in secrets for form in _forms(secret))
        self._runs = {
            form[start : start + RUN] for form in forms for start in range(len(form) - RUN + 1)
        }

    def scrub(self, text: bytes) -> bytes:
        """`text` with every trace of a secret replaced by "[redacted]".

        Its time grows with the text's length, not with the number of secrets.
        """
        for secret in self._short:
            text = text.replace(secret, REDACTED)
        return _KEY_LIKE.sub(REDACTED, self._without_runs(text))

    def _without_runs(self, text: bytes) -> bytes:
        parts: list[bytes] = []
        done = 0
        levelled = _levelled(text)
        for start in range(len(text) - RUN + 1):
            if levelled[start : start + RUN] not in self._runs:
                continue
            if start > done or not parts:
                parts += (text[done:start], REDACTED)
            done = start + RUN
        return b"".join((*parts, text[done:]))


def scrub(text: bytes, secrets: Sequence[bytes]) -> bytes:
    """One text without these secrets: see `Scrubber`, which is quicker for many texts."""
    return Scrubber(secrets).scrub(text)


def _levelled(text: bytes) -> bytes:
    """The text as it is compared: in one case, and in one of base64's two alphabets."""
    return text.lower().translate(_ONE_ALPHABET)


def _forms(secret: bytes) -> Iterator[bytes]:
    """The secret and what others may have made of it."""
    yield secret
    yield secret.hex().encode()
    # Three bytes make four digits, so what stands before a secret decides on all of its digits:
    # those that have a bit of what is before or after it are no trace of the secret alone.
    for before in range(3):
        digits = b64encode(bytes(before) + secret)
        yield digits[ceil(8 * before / 6) : 8 * (before + len(secret)) // 6]
