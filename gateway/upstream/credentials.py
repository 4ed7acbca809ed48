"""The upstream key: from the environment, or from a file."""

from pathlib import Path

from gateway.rules.secret import Secret
from gateway.rules.settings import Upstream


def upstream_key(settings: Upstream) -> Secret:
    """The key; the environment outranks the file.

    Raises OSError for a file that cannot be read, ValueError for one that holds no key.
    """
    if settings.api_key is not None:
        return settings.api_key
    if settings.api_key_file is None:
        raise ValueError("no upstream key is set")
    text = Path(settings.api_key_file).read_text().strip()
    if not text or not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("the file does not hold one line of printable ASCII")
    return Secret(text)
