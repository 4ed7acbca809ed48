"""An image store in a folder of its own, with a clock that stands still."""

from collections import Counter
from pathlib import Path

from msgspec.structs import replace

from gateway.config.images import ImagesSettings
from gateway.config.settings import Settings
from gateway.images.store import ImageStore
from gateway.telemetry.observer import Observer
from gateway.upstream.sandbox.png import draw

NOW = 1_700_000_000.0
"""In the past: a file that a test has just written must not look old to the store's own scan."""


def picture(number: int, padding: int = 0) -> bytes:
    """A picture of its own, with so many bytes behind it."""
    return draw(number.to_bytes(32, "big"), 16, 16) + bytes(padding)


class Bench(Observer):
    """A store in `folder`. `now` is the time, and the counters have what it reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.settings = Settings(images=ImagesSettings(url=f"file:{folder}"))
        self.evicted = Counter[str]()
        self.not_kept = Counter[str]()
        self.lookups = Counter[str]()
        self.store = self.another()

    def another(self) -> ImageStore:
        """A further store in the same folder, as another process has it."""
        return ImageStore(lambda: self.settings, wall=lambda: self.now, observer=self)

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

    def cache_eviction(self, tier: str, reason: str) -> None:
        assert tier == "disk"
        self.evicted[reason] += 1

    def picture_not_kept(self, reason: str) -> None:
        self.not_kept[reason] += 1

    def cache_lookup(self, tier: str, result: str) -> None:
        assert tier == "disk"
        self.lookups[result] += 1
