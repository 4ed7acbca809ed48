"""The upstream's reason for a failure without the client's texts, for logs and the history.

An upstream may repeat a prompt in its reason: cut off, escaped, or with other white space. The
gateway redacts every run of 8 characters that the reason shares with a text of the request. It
ignores case, undoes the escapes of JSON, URLs and HTML, and compares the texts as they are and
their letters and digits alone. In doubt it redacts too much: the client gets the whole reason.
"""

import html
import re
import sys
from collections.abc import Callable, Iterator
from urllib.parse import unquote

from gateway.core.model import ImageRequest
from gateway.core.redaction import REDACTED, RUN

REASON_CHARS = 200
"""The length of a reason in logs and in the history."""

MOST_CHARS = 100_000
"""The most text to compare with: some 10 ms. Beyond that, the whole reason is redacted."""

STEP = RUN // 2
PART = RUN - STEP + 1
"""Each run has a part of this length at a multiple of `STEP` in the text: most texts are done after
a quarter of the look-ups."""

_OURS = {"prompt", "model", "size"}
"""The prompt is always compared. Model and size are names from the configuration."""

_PLAIN_WORD = re.compile(r"[a-z_]{1,30}")
"""Names and values such as `output_format` and `transparent` are the API's own words."""

_ESCAPE = re.compile(
    r"\\+(?:u([0-9a-f]{4})|U([0-9a-f]{8})|x([0-9a-f]{2})|([abfnrtv])|(?=[^\w\s]))", re.IGNORECASE
)
_MARK = REDACTED.decode()


def shown_reason(reason: str, request: ImageRequest) -> str:
    """Return the reason without the request's texts: one line of at most `REASON_CHARS`."""
    body = {name: value for name, value in request.body.items() if name not in _OURS}
    texts = [text for text in _texts(body) if not _PLAIN_WORD.fullmatch(text)]
    texts.append(request.prompt)
    if sum(map(len, texts)) > MOST_CHARS:
        return _MARK
    shown = _one_line(_unescaped(reason))
    if shown != _one_line(reason):  # what looks like an escape may be the prompt's own
        texts += map(_unescaped, texts[:])
    texts = [" ".join(text.split()).casefold() for text in texts]
    private = _shared(shown, texts, _any) | _shared(shown, texts, str.isalnum)
    if len(request.prompt) < RUN:
        private |= _alone(shown, request.prompt)
    return _without(shown, private)[:REASON_CHARS]


def _texts(value: object) -> Iterator[str]:
    """Yield all names and texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from _texts(part)


# -- escapes --------------------------------------------------------------------------------------


def _one_line(text: str) -> str:
    """Replace everything that is not printable, and all white space, by single spaces."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _unescaped(text: str) -> str:
    text = _ESCAPE.sub(_escaped, text)
    # JSON writes a character beyond 16 bits as two escapes.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return unquote(html.unescape(text))


def _escaped(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2] or escape[3]
    if digits is None:
        return " " if escape[4] else ""
    code = int(digits, 16)
    return chr(code) if code <= sys.maxunicode else " "


# -- runs -----------------------------------------------------------------------------------------


def _any(_: str) -> bool:
    return True


def _shared(shown: str, texts: list[str], counts: Callable[[str], bool]) -> set[int]:
    """Return the places in `shown` of the runs of characters that count."""
    line = "".join(filter(counts, shown.casefold()))
    runs = {line[at : at + RUN] for at in range(len(line) - RUN + 1)}
    parts = {line[at : at + PART] for at in range(len(line) - PART + 1)}
    found = {
        run
        for text in texts
        for own in ["".join(filter(counts, text))]
        for part in range(0, len(own), STEP)
        if own[part : part + PART] in parts
        for at in range(max(0, part - STEP + 1), part + 1)
        if (run := own[at : at + RUN]) in runs
    }
    # The folded text may be longer than the text, and lacks characters that do not count.
    places = [at for at, one in enumerate(shown) for each in one.casefold() if counts(each)]
    return {
        place
        for at in range(len(line) - RUN + 1)
        if line[at : at + RUN] in found
        for place in range(places[at], places[at + RUN - 1] + 1)
    }


def _alone(shown: str, prompt: str) -> set[int]:
    """Return the places of a prompt that is shorter than a run, where it is not part of a word."""
    words = re.escape(prompt.strip())
    found = re.finditer(rf"(?<!\w){words}(?!\w)", shown, re.IGNORECASE)
    return {place for match in found for place in range(*match.span())}


def _without(shown: str, private: set[int]) -> str:
    parts: list[str] = []
    for place, one in enumerate(shown):
        if place not in private:
            parts.append(one)
        elif place - 1 not in private:
            parts.append(_MARK)
    return "".join(parts)
