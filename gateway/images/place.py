"""Where the bytes of pictures live: the port of a folder (`gateway.images.files`) and of a bucket
(`gateway.images.bucket`).
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from gateway.telemetry.observer import NotKeptReason

T = TypeVar("T")

USE_SECONDS = 60.0
"""How exactly the last use of a picture is known."""

MOST_PICTURE_BYTES = 256 * 1024 * 1024
"""A longer file is not read. No answer has such a picture."""

MOST_KNOWN = 10_000
"""Of how many pictures a place remembers something."""


class NotKept(Exception):
    """A file was not written. `cause` is for the log, empty if the data is to blame."""

    def __init__(self, reason: NotKeptReason, cause: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause


class Away(NotKept):
    """The place does not answer, or does not let the gateway in. Its pictures may still exist."""


class Place(Protocol):
    """Keeps pictures by their names: see `gateway.images.picture.name_of`.

    All methods block: run them in a thread. All but `prepare` may raise Away. `now` is in seconds
    since the epoch. A picture is kept for `life` seconds after its last use.
    """

    shown: str
    """What logs call the place."""
    threads: int
    """How many calls may run at once."""

    def prepare(self) -> None:
        """Check that pictures can be written. Raises NotKept."""

    def has(self, name: str, now: float, life: float) -> bool:
        """Whether a picture is there, and stays for `life`. Its bytes are not checked."""

    def touch(self, name: str, now: float, life: float) -> bool:
        """As `has`, but False also where the picture should rather be written again."""

    def write(self, name: str, data: bytes, now: float, most: int) -> None:
        """Write a picture. A folder has at most `most` bytes. Raises NotKept."""

    def size(self, name: str, now: float, life: float) -> int | None:
        """Return the bytes of a picture that a link names, or None if it is gone."""

    def read(self, name: str, start: int, length: int, now: float, life: float) -> bytes | None:
        """Return so many bytes of such a picture (-1: all that follow), or None if it is gone.

        The hash of all bytes is checked, unless it was and the picture has not changed since. A
        damaged picture is removed.
        """


class Known(Generic[T]):
    """What is known of the latest MOST_KNOWN pictures, by their names. Threads may share it."""

    def __init__(self) -> None:
        self._values = OrderedDict[str, T]()

    def get(self, name: str) -> T | None:
        """Return what was noted last, or None."""
        return self._values.get(name)

    def note(self, name: str, value: T) -> None:
        """Remember this, in place of what was known."""
        self._values.pop(name, None)
        self._values[name] = value
        if len(self._values) > MOST_KNOWN:
            self._values.popitem(last=False)

    def forget(self, name: str) -> None:
        """Remember nothing."""
        self._values.pop(name, None)
