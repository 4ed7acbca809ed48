"""Redaction of secrets in text from outside, such as the upstream's error bodies.

An upstream may repeat its key, whole or in part ("Incorrect API key: sk-ab..."), and an attacker
behind it may encode the key. The gateway redacts every run of 8 bytes that a secret contains. It
ignores case, and also recognises the secret's hexadecimal digits and its base64, in both alphabets
and at any offset. It redacts everything that looks like a key, too. In doubt it redacts too much:
a garbled error harms nobody.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from math import ceil

REDACTED = b"[redacted]"

RUN = 8
"""The length of a run that counts as part of a secret. A shorter secret is searched for whole."""

# A short "sk-" key must start a word, or "risk-assessment" would be one. A long one need not: in
# JSON the letter of an escape ("\n") may be right before it.
_KEY_LIKE = re.compile(
    rb"(?i:bearer)[ :]+[^\s\"',\\]+"
    rb"|(?<![A-Za-z0-9])sk-[A-Za-z0-9_*-]{4,}"
    rb"|sk-[A-Za-z0-9_*-]{20,}"
)

_ONE_ALPHABET = bytes.maketrans(b"-_", b"+/")


class Redactor:
    """Redacts these secrets in texts."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._short = [secret for secret in secrets if 0 < len(secret) < RUN]
        forms = (_normalised(form) for secret in secrets for form in _forms(secret))
        self._runs = {
            form[start : start + RUN] for form in forms for start in range(len(form) - RUN + 1)
        }

    def redact(self, text: bytes) -> bytes:
        """Replace every trace of a secret with "[redacted]".

        The time depends on the length of the text, not on the number of secrets.
        """
        for secret in self._short:
            text = text.replace(secret, REDACTED)
        return _KEY_LIKE.sub(REDACTED, self._without_runs(text))

    def _without_runs(self, text: bytes) -> bytes:
        parts: list[bytes] = []
        done = 0
        normalised = _normalised(text)
        for start in range(len(text) - RUN + 1):
            if normalised[start : start + RUN] not in self._runs:
                continue
            if start > done or not parts:
                parts += (text[done:start], REDACTED)
            done = start + RUN
        return b"".join((*parts, text[done:]))


def redact(text: bytes, secrets: Sequence[bytes]) -> bytes:
    """Redact secrets in one text. For many texts a `Redactor` is faster."""
    return Redactor(secrets).redact(text)


def _normalised(text: bytes) -> bytes:
    """Return the text for comparison: in lower case and one of base64's two alphabets."""
    return text.lower().translate(_ONE_ALPHABET)


def _forms(secret: bytes) -> Iterator[bytes]:
    """Yield the secret and its encodings."""
    yield secret
    yield secret.hex().encode()
    # Three bytes make four digits, so the bytes before a secret change all of its digits. Digits
    # that share bits with the bytes before or after it are left out.
    for before in range(3):
        digits = b64encode(bytes(before) + secret)
        yield digits[ceil(8 * before / 6) : 8 * (before + len(secret)) // 6]
