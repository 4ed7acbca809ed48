"""The cache on the disk, behind memory: what it holds survives a restart.

An answer is one small file beside its pictures in the image store: the record that Redis would
hold, sealed, with the names of the pictures in place of their base64. Put together again it is the
same text, byte for byte; base64 of any other form stays in the record. An answer whose picture is
gone is a miss and is removed.

Races that it guards against:

1. *A purge while an answer waits for the disk.* It is taken out of the queue, or its write is
   waited for, and then the file is removed.
2. *A slow disk.* Answers are written after they were sent, one at a time. What waits is bounded. A
   disk that does not answer a look-up within a second is a miss, for all requests of the next ten.
3. *A kill.* What waited is lost: it is savings, not money.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import ClassVar, Literal

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from gateway.cache.codec import HEAD_BYTES, OVERHEAD_BYTES, CachedAnswer, Seal, decode, encode
from gateway.config.live import CurrentSettings
from gateway.core.model import Bought
from gateway.core.tasks import Background
from gateway.images import encoding
from gateway.images.buyers import pictures_in
from gateway.images.files import Files
from gateway.images.picture import kind_of, name_of
from gateway.images.place import MOST_PICTURE_BYTES, NotKept
from gateway.images.store import ImageStore, answer_file
from gateway.telemetry.observer import NO_OBSERVER, Observer

log = structlog.get_logger(source="cache")

MOST_WAITING_BYTES = 128 * 1024 * 1024
"""Most bytes of answers that wait for the disk. Memory holds most of them anyway."""

LOOK_SECONDS = 1.0
REST_SECONDS = 10.0
"""How long a request waits for the disk, and how long no request does after one waited in vain."""

LACKING = (MemoryError, RuntimeError)
"""What a process raises that has no memory for a file, or for a thread."""

CLOSE_SECONDS = 5.0
"""How long a stop waits for the disk."""

_CUT_BYTES = 128
"""Most bytes that a picture takes in a record."""


class _Body(Struct, frozen=True, array_like=True):
    """An answer without its pictures, and the place and name of each in it."""

    rest: bytes
    cuts: list[tuple[int, str]]


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Body).decode


@dataclass(eq=False)
class DiskCache:
    """The second tier of `gateway.cache.tiers` where no Redis and no bucket is configured.

    `files` is the folder of `images`. All gateways of a store have the same `seal`, and its mark is
    part of the files' names: the answers of several stores do not meet in one folder.
    """

    NAME: ClassVar[Literal["disk"]] = "disk"

    images: ImageStore
    files: Files
    seal: Seal
    settings: CurrentSettings
    wall: Callable[[], float]
    observer: Observer = NO_OBSERVER
    most_waiting: int = MOST_WAITING_BYTES
    _waiting: OrderedDict[str, CachedAnswer] = field(default_factory=OrderedDict)
    _waiting_bytes: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _rests_until: float = 0.0
    _background: Background = field(default_factory=lambda: Background("disk cache"))

    def start(self) -> None:
        """Write from now on what `set` hands over."""
        self._background.spawn(self._write_waiting())

    async def close(self) -> None:
        """Write what still waits, unless the disk is slow."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._waiting:
                    await self._write_next()
        await self._background.close()

    # -- as RedisCache --------------------------------------------------------------------------

    async def fetch(self, key: str, *, counted: bool = True) -> CachedAnswer | None:
        """The answer of this key, or None. The observer counts the look-up if `counted`."""
        if not self.images.enabled:
            return None
        found = self._waiting.get(key) or await self._look(key)
        if counted:
            self.observer.cache_lookup(self.NAME, "miss" if found is None else "hit")
        return found

    async def set(self, key: str, bought: Bought, ttl: float | None = None) -> bool:
        """Hand an answer over to be written. Returns whether it will be tried."""
        size = len(bought.body)
        if not self.images.enabled or size > self.settings().cache.max_entry_bytes:
            return False
        self._take(key)
        if self._waiting_bytes + size > self.most_waiting:
            self.images.not_kept(NotKept("busy"))
            return False
        self._waiting[key] = CachedAnswer(key, self.wall() + ttl if ttl else inf, bought)
        self._waiting_bytes += size
        self._arrived.set()
        return True

    async def delete(self, key: str) -> int:
        """Remove an answer. Returns how many there were."""
        waited = self._take(key) is not None
        async with self._writing:
            removed = await self.images.run(lambda: self.files.remove(self._file(key)))
        return int(waited or removed)

    async def clear(self) -> bool:
        """Remove all answers. Their pictures stay as long as unused ones: links may name them."""
        self._waiting.clear()
        self._waiting_bytes = 0
        async with self._writing:
            await self.images.run(lambda: self._remove_all(inf))
        return True

    async def forget(self, purged: Mapping[str, float], all_until: float) -> None:
        """Remove the answers bought until they were purged, by key, and all until `all_until`."""
        for key, answer in list(self._waiting.items()):
            if answer.bought.at <= max(all_until, purged.get(key, -inf)):
                self._take(key)
        async with self._writing:
            if all_until > -inf:
                await self.images.run(lambda: self._remove_all(all_until))
            for key, until in purged.items():
                await self.images.run(partial(self._remove, key, until))

    # -- writing --------------------------------------------------------------------------------

    def _take(self, key: str) -> CachedAnswer | None:
        answer = self._waiting.pop(key, None)
        if answer is not None:
            self._waiting_bytes -= len(answer.bought.body)
        return answer

    async def _write_waiting(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._write_next()

    async def _write_next(self) -> None:
        async with self._writing:
            if not self._waiting:
                return
            # It stays in the queue until it is written, so that it is found meanwhile.
            key, answer = next(iter(self._waiting.items()))
            try:
                await self.images.guarded(lambda: self._write(answer))
            except LACKING:
                self.images.not_kept(NotKept("busy"))
            finally:
                if self._waiting.get(key) is answer:
                    self._take(key)

    def _write(self, answer: CachedAnswer) -> None:
        body = answer.bought.body
        rest, cuts, done, length = list[bytes](), list[tuple[int, str]](), 0, 0
        for start, end, data in pictures_in(body):
            if kind_of(data) is None:
                continue
            rest.append(body[done:start])
            length += start - done
            cuts.append((length, self.images.keep_now(data)))
            done = end
        rest.append(body[done:])
        packed = replace(answer.bought, body=_pack(_Body(b"".join(rest), cuts)))
        record = self.seal.sealed(encode(CachedAnswer(answer.key, answer.expires, packed)))
        self.images.write_now(self._file(answer.key), record)

    # -- reading --------------------------------------------------------------------------------

    async def _look(self, key: str) -> CachedAnswer | None:
        """Read an answer. A disk that hangs is a miss, and is left alone for a while."""
        now = asyncio.get_running_loop().time
        if now() < self._rests_until:
            return None
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self.images.run(lambda: self._read(key))
        except TimeoutError:
            self._rests_until = now() + REST_SECONDS
        except LACKING as failure:
            log.warning("answer on the disk not read", cause=type(failure).__name__)
        return None

    def _read(self, key: str) -> CachedAnswer | None:
        record = self._record(key)
        if record is None:
            return None
        answer, body = record
        # A clock that was set back, or a shorter ttl in the settings, must not prolong its life.
        end = min(answer.expires, answer.bought.at + self.settings().cache.ttl_seconds)
        if end <= self.wall():
            self._drop(key, "expired")
            return None
        parts, done = list[bytes](), 0
        for place, name in body.cuts:
            data = self._picture(name)
            if data is None:
                self._drop(key, "damaged")
                return None
            parts += (body.rest[done:place], encoding.encode(data))
            done = place
        parts.append(body.rest[done:])
        return CachedAnswer(key, end, replace(answer.bought, body=b"".join(parts)))

    def _record(self, key: str) -> tuple[CachedAnswer, _Body] | None:
        """The record of an answer, without its pictures. A damaged one is removed."""
        longest = self.settings().cache.max_entry_bytes + OVERHEAD_BYTES + HEAD_BYTES
        data = self._load(self._file(key), longest + _CUT_BYTES * 1_000)
        if data is None:
            return None
        record = self.seal.opened(data)
        if record is not None:
            answer = decode(bytes(record[:HEAD_BYTES]), record[HEAD_BYTES:])
            if answer is not None and answer.key == key:
                with suppress(msgspec.DecodeError):
                    return answer, _unpack(answer.bought.body)
        self._drop(key, "damaged")
        return None

    def _picture(self, name: str) -> bytes | None:
        """The bytes of a picture, whose hash is checked each time. A damaged one is removed."""
        data = self._load(name, MOST_PICTURE_BYTES)
        if data is not None and name_of(data) != name:
            self.files.remove(name, "damaged")
            return None
        return data

    def _load(self, name: str, most: int) -> bytes | None:
        return self.files.load(name, self.wall(), self.images.life, most)

    def _file(self, key: str) -> str:
        return answer_file(key, self.seal.mark)

    def _drop(self, key: str, reason: str) -> None:
        self.files.remove(self._file(key), reason)

    # -- purges ---------------------------------------------------------------------------------

    def _remove(self, key: str, until: float) -> None:
        record = self._record(key)
        if record is not None and record[0].bought.at <= until:
            self.files.remove(self._file(key))

    def _remove_all(self, until: float) -> None:
        for name, used in self.files.answers(self.seal.mark):
            if used <= until:  # so it was bought before, too
                self.files.remove(name)
            else:
                self._remove(name.partition(".")[0], until)
