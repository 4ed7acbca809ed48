"""The reason of an upstream's error, in words and as codes, whatever the shape of its body.

The shapes: OpenAI's `{"error": {"message", "type", "code"}}`, `{"error": "text"}`, `{"detail":
...}` as text or as FastAPI's list, `{"message": "text"}`, `{"errors": [...]}`, problem details
(RFC 9457), each alone, nested or in a list; HTML and XML; and plain text.

Anybody on the way may have written the body, and may repeat the gateway's key in it. The work is
bounded: only the first `MAX_BYTES` are read, and only `MAX_WORDS` characters are redacted.
"""

import codecs
import html
import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from unicodedata import category

from msgspec import Struct

from gateway.core.redaction import Redactor
from gateway.core.upstream_errors import MAX_REASON

MAX_BYTES = 65_536
"""How much of a body is read. JSON that is longer has no reason."""

MAX_WORDS = 2_000
"""Characters of a reason that are redacted and searched for words."""

_MAX_DEPTH = 8
_MAX_ITEMS = 10
_MAX_CODES = 20
_MAX_JUNK = 0.1
"""The share of control and unknown characters above which it is no text."""

_SENTENCES = (
    *("message", "detail", "details", "msg", "error_description", "error_message", "description"),
    *("faultstring", "reason"),
)
_CODES = ("code", "error_code", "type", "status", "reason", "error")
_INNER = ("error", "errors", "fault", "data")
_NESTED = (*_INNER, "message", "detail", "details", "innererror", "inner_error", "cause")

_DATA = re.compile(r"[A-Za-z0-9+/=_-]{101}")
"""Part of a picture, or of other data: no word is so long."""
_UNKNOWN = "\ufffd"
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CHARSET = re.compile(r"charset=[\"']?([a-z0-9_-]{1,20})", re.IGNORECASE)
_CHARSETS = {
    *("iso-8859-1", "latin1", "windows-1252", "utf-16", "utf-16le", "utf-16be"),
    *("shift_jis", "euc-jp", "gb2312", "gbk", "gb18030", "big5", "euc-kr"),
}
"""The encodings besides UTF-8. Python knows more, and some take a quadratic time."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16le",
    codecs.BOM_UTF16_BE: "utf-16be",
}

# The lengths are bounded, or a page of many tags without an end would take a quadratic time.
_TAGS = [
    re.compile(rf"<{tag}(?:\s[^<>]{{0,200}})?>([^<]{{1,{MAX_WORDS}}})", re.IGNORECASE)
    for tag in ("title", "h1", "message")
]


class Said(Struct, frozen=True):
    """What an upstream said. `words` have no secrets, and "" stands for none.

    `codes` are its error's codes and types, the most important one first.
    """

    words: str = ""
    codes: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """The words, at most `MAX_REASON` characters. None without any, or with data in them."""
        if _DATA.search(self.words):
            return None
        cut = self.words if len(self.words) <= MAX_REASON else f"{self.words[: MAX_REASON - 1]}…"
        return cut or None

    def has_code(self, codes: Sequence[str]) -> bool:
        """Whether one of its codes is among these, also in another spelling: QuotaExceeded."""
        known = set(map(_spelling, codes))
        return any(_spelling(code) in known for code in self.codes)

    def mentions(self, codes: Sequence[str]) -> bool:
        """Whether one of these is among its codes, or is written in its words."""
        return self.has_code(codes) or any(_in_words(code).search(self.words) for code in codes)


def read_said(body: bytes, content_type: str, redactor: Redactor) -> Said:
    """Read what an upstream said in a body of any shape."""
    text = _decoded(body[:MAX_BYTES], content_type).lstrip()
    is_json = text.startswith(("{", "[", '"'))
    words, codes = _of_json(text) if is_json else (_plain(text), [])
    if words.startswith("<"):
        words = _of_markup(words)
    clean = _redacted(_clean(words), redactor)
    kept = (code for code in codes if _CODE.fullmatch(code) and _redacted(code, redactor) == code)
    return Said(clean, tuple(kept))


# -- bytes to text ------------------------------------------------------------------------------


def _decoded(body: bytes, content_type: str) -> str:
    for mark, name in _MARKS.items():
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    found = _CHARSET.search(content_type)
    if found and found[1].lower() in _CHARSETS:
        return body.decode(found[1], "replace")
    try:
        # Not `decode`: the last character may be cut.
        return codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return body.decode("windows-1252", "replace")


def _plain(text: str) -> str:
    """Return text, or "" if it seems to be something else, such as compressed data."""
    start = text[:MAX_WORDS]
    junk = sum(each == _UNKNOWN or category(each) in ("Cc", "Cn") for each in start)
    return "" if junk - sum(map(start.count, "\t\r\n")) > _MAX_JUNK * len(start) else text


def _clean(text: str) -> str:
    """Return text as one line, without invisible characters, which could hide a key."""
    seen = (each for each in text[: 2 * MAX_WORDS] if each.isspace() or each.isprintable())
    return " ".join("".join(seen).split())[:MAX_WORDS]


def _redacted(text: str, redactor: Redactor) -> str:
    return redactor.redact(text.encode()).decode(errors="replace")


# -- text to words and codes --------------------------------------------------------------------


def _of_markup(text: str) -> str:
    found = filter(None, (tag.search(text) for tag in _TAGS))
    return next((html.unescape(each[1]) for each in found if not each[1].isspace()), "")


def _of_json(text: str) -> tuple[str, list[str]]:
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        # Perhaps it is only cut off. But an escape could hide a key.
        return ("" if "\\" in text else _plain(text)), []
    return _words(value), list(islice(_codes(value), _MAX_CODES))


def _words(value: object, depth: int = 0) -> str:
    """Return what an error's JSON says, "" if that is nothing."""
    if isinstance(value, str):
        return value[:MAX_WORDS].strip()
    if depth == _MAX_DEPTH:
        return ""
    if isinstance(value, list):
        said = (_words(each, depth + 1) for each in value[:_MAX_ITEMS])
        return "; ".join(filter(None, said))
    if not isinstance(value, dict):
        return ""
    fields = {name.lower(): each for name, each in value.items()}

    def first(*names: str) -> str:
        return next(filter(None, (_words(fields.get(name), depth + 1) for name in names)), "")

    if not isinstance(fields.get("error"), str) and (inner := first("error")):
        return inner
    where = fields.get("loc")  # FastAPI: the path of the field that is wrong
    place = ".".join(map(str, where[:_MAX_ITEMS])) if isinstance(where, list) else ""
    return _joined(first("error", "title"), place, first(*_SENTENCES), first(*_INNER[1:]))


def _joined(*parts: str) -> str:
    """Join parts of a sentence, without those that another one repeats."""
    joined = ""
    for part in parts:
        if joined.lower() in part.lower():
            joined = part
        elif part.lower() not in joined.lower():
            joined = f"{joined}: {part}"
    return joined


def _codes(value: object, depth: int = 0) -> Iterator[str]:
    """Yield the codes of an error's JSON."""
    if depth == _MAX_DEPTH:
        return
    if isinstance(value, list):
        for each in value[:_MAX_ITEMS]:
            yield from _codes(each, depth + 1)
    if not isinstance(value, dict):
        return
    fields = {name.lower(): each for name, each in value.items()}
    found = (fields.get(name) for name in _CODES)
    yield from (each for each in found if isinstance(each, str))
    for name in _NESTED:
        yield from _codes(fields.get(name), depth + 1)


def _spelling(code: str) -> str:
    return re.sub(r"[^a-z0-9]", "", code.lower())


def _in_words(code: str) -> re.Pattern[str]:
    """The pattern of a code in a sentence: "content policy" for content_policy, as whole words."""
    words = r"[\s_-]".join(map(re.escape, re.split(r"[_.-]", code)))
    return re.compile(rf"(?<![A-Za-z0-9_]){words}(?![A-Za-z0-9_])", re.IGNORECASE)
