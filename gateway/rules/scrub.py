"""Taking secrets out of text that somebody else wrote, such as the upstream's error bodies.

An upstream may repeat the key it was sent, whole or in part ("Incorrect API key: sk-ab...").
Whatever shares 8 bytes in a row with a secret goes, and so does all that looks like a key of any
kind, known or not. In doubt too much is taken out: a garbled error harms nobody.
"""

import re
from collections.abc import Sequence

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


def scrub(text: bytes, secrets: Sequence[bytes]) -> bytes:
    """`text` with every trace of a secret replaced by "[redacted]".

    Its time grows with the text's length, not with the number of secrets.
    """
    for secret in secrets:
        if 0 < len(secret) < RUN:
            text = text.replace(secret, REDACTED)
    return _KEY_LIKE.sub(REDACTED, _without_runs(text, _runs(secrets)))


def _runs(secrets: Sequence[bytes]) -> set[bytes]:
    return {
        secret[start : start + RUN] for secret in secrets for start in range(len(secret) - RUN + 1)
    }


def _without_runs(text: bytes, runs: set[bytes]) -> bytes:
    parts: list[bytes] = []
    done = 0
    for start in range(len(text) - RUN + 1):
        if text[start : start + RUN] not in runs:
            continue
        if start > done or not parts:
            parts += (text[done:start], REDACTED)
        done = start + RUN
    return b"".join((*parts, text[done:]))
