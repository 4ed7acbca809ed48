"""Tests that measure how long things take run while no other test does.

Several processes run tests at once, on machines with few processors. Each test takes part in a
lock that all of them share; one that is marked `alone` takes it for itself.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def taking_part(folder: Path, *, alone: bool) -> Iterator[None]:
    """Until the block ends: with all who do not want to be alone, or with nobody.

    Everybody passes the door one by one, and who wants to be alone keeps it shut while the others
    leave: else new ones would come for ever.
    """
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
