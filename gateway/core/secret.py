"""Secret text, which logs and tracebacks print as stars."""

import codecs

_QUOTES = (b'"', b"'", b"`")


def wrapping_fault(text: bytes) -> str | None:
    """Return what is wrong if a text was copied with quotes around it or with a byte order mark.

    `docker --env-file` keeps quotes, and some editors write the mark.
    """
    if text.startswith(codecs.BOM_UTF8):
        return "begins with a byte order mark: save it without one"
    if text[:1] in _QUOTES and text[-1:] == text[:1]:
        return "has quotes around it: remove them"
    return None


class Secret:
    """A secret text. Only `reveal` returns it, so every use can be searched for."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)
