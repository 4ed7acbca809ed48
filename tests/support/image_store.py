"""An image store in a folder or a bucket of its own, with a clock that stands still."""

import os
import time
from collections import Counter
from pathlib import Path

from msgspec.structs import replace

from gateway.config.images import ImagesSettings
from gateway.config.settings import Settings
from gateway.images.files import Files
from gateway.images.store import ImageStore
from gateway.telemetry.observer import Observer
from gateway.upstream.sandbox.png import draw
from tests.support.bucket import BucketServer

NOW = 1_700_000_000.0
"""In the past: a file that a test has just written must not look old to the store's own scan."""


def picture(number: int, padding: int = 0) -> bytes:
    """A picture of its own, with so many bytes behind it."""
    return draw(number.to_bytes(32, "big"), 16, 16) + bytes(padding)


class Bench(Observer):
    """A store in `folder`. `now` is the time, and the counters have what it reported."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self.now = NOW
        self.settings = Settings(images=ImagesSettings(url=url or f"file:{folder}"))
        self.evicted = Counter[str]()
        self.not_kept = Counter[str]()
        self.lookups = Counter[str]()
        self.store = self.another()

    def another(self) -> ImageStore:
        """A further store in the same folder, as another process has it."""
        return ImageStore(lambda: self.settings, wall=lambda: self.now, observer=self)

    @property
    def known(self) -> Files:
        """The files in the folder that the store knows."""
        assert self.store.files is not None
        return self.store.files

    def use(self, **images: object) -> None:
        """Change settings of [images]."""
        self.settings = replace(self.settings, images=replace(self.settings.images, **images))

    @property
    def files(self) -> list[Path]:
        """All files in the folder, drafts too."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def file(self, name: str) -> Path:
        """The file of this name."""
        return self.folder / name[:2] / name

    async def overwrite(self, name: str, data: bytes) -> None:
        """Change the bytes of a picture."""
        self.file(name).write_bytes(data)
        os.utime(self.file(name), (self.now, self.now))

    async def content(self, name: str) -> bytes | None:
        """The bytes of a picture, None if it is not there."""
        return self.file(name).read_bytes() if self.file(name).exists() else None

    async def lose(self, name: str) -> None:
        """Remove a picture behind the store's back."""
        self.file(name).unlink()

    def cache_eviction(self, tier: str, reason: str) -> None:
        assert tier == "disk"
        self.evicted[reason] += 1

    def picture_not_kept(self, reason: str) -> None:
        self.not_kept[reason] += 1

    def cache_lookup(self, tier: str, result: str) -> None:
        assert tier == "disk"
        self.lookups[result] += 1


class BucketBench(Bench):
    """A store in `bucket` on a server, which dates pictures by its own clock."""

    def __init__(self, server: BucketServer, bucket: str) -> None:
        super().__init__(Path(), f"s3://{bucket}/some/pictures")
        self.now = time.time()
        self.server = server
        self._objects = server.objects(bucket)

    async def overwrite(self, name: str, data: bytes) -> None:
        await self._objects.put_async(self._path(name), data)

    async def content(self, name: str) -> bytes | None:
        try:
            found = await self._objects.get_async(self._path(name))
        except FileNotFoundError:
            return None
        return bytes(await found.bytes_async())

    async def lose(self, name: str) -> None:
        await self._objects.delete_async(self._path(name))

    def _path(self, name: str) -> str:
        return f"some/pictures/{name}"
