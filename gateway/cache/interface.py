"""The interface of every cache here: the part of aiocache's that the gateway uses."""

from typing import Any

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer


class AnswerCache(BaseCache):  # type: ignore[misc]  # aiocache is published without types
    """`get`, `set`, `delete`, `clear` and `close`; aiocache's other methods are not offered.

    A cache implements `_get`, `_set`, `_delete`, `_clear` and `_close`, which aiocache calls.
    Values are passed on as they are, without serialisation, so they must not change. No timeout
    is set: aiocache would wrap each call in `wait_for`, which takes twice as long as a cache hit.
    """

    def __init__(self) -> None:
        super().__init__(serializer=NullSerializer(), timeout=0)

    async def _close(self, *args: Any, _conn: Any = None, **kwargs: Any) -> None:
        """Nothing to close."""
