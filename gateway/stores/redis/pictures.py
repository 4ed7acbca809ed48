"""Which purchases bought a picture: a hash for each picture, which expires when usage does."""

from collections.abc import Sequence
from math import ceil

import msgspec

from gateway.reporting.store import PictureBuyer
from gateway.stores.redis import names
from gateway.stores.redis.link import RedisPart, operation
from gateway.stores.redis.scripts import Argument, tuples

NEVER = 32_503_680_000
"""The year 3000, in seconds since 1970."""

_decode = msgspec.json.Decoder(PictureBuyer).decode


class RedisPictures(RedisPart):
    """The PictureStore in one key for each picture."""

    @operation("write_pictures")
    async def write(self, records: Sequence[PictureBuyer], seconds: float | None) -> None:
        arguments: list[Argument] = []
        for record in records:
            ends = NEVER if seconds is None else ceil(record.at + seconds)
            arguments += (record.purchase, msgspec.json.encode(record), ends)
        keys = [names.picture(record.sha256) for record in records]
        await self.link.call("write_pictures", keys, *arguments)

    @operation("pictures")
    async def find(self, sha256: str, limit: int) -> list[PictureBuyer]:
        texts = await self.link.read(names.picture(sha256), "HGETALL")
        found = [_decode(text) for _, text in tuples(texts, 2)]
        found.sort(key=lambda each: (each.at, each.purchase), reverse=True)
        return found[:limit]

    async def forget(self, before: float) -> bool:
        return False  # the keys expire
