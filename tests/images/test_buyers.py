"""Who bought a picture is written to the store a moment later."""

import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.config.settings import Settings
from gateway.core.errors import StoreUnavailable
from gateway.core.model import NO_LIMITS
from gateway.images.buyers import MOST_AT_ONCE, MOST_UNWRITTEN, PictureBuyers
from gateway.quota.steps import Reserve
from gateway.reporting.store import PictureBuyer
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.observer import Observers
from tests.conformance.store import NOON
from tests.support.image_store import picture

RESERVATION = Reserve(
    id="r1",
    team="red",
    key="k1",
    model="gpt-image-2",
    size="s",
    quality="q",
    images=2,
    cost=99,
    lease=1.0,
    limits=NO_LIMITS,
    gateway_limits=NO_LIMITS,
)
PICTURES = [picture(number) for number in range(3)]
DIGESTS = [sha256(data).hexdigest() for data in PICTURES]


def body(*pictures: bytes, uri: str = "") -> bytes:
    """An answer with these pictures."""
    items = [{"b64_json": uri + b64encode(data).decode()} for data in pictures]
    return json.dumps({"data": items}).encode()


class Store:
    """A PictureStore that records its batches, and is away while `away`."""

    def __init__(self) -> None:
        self.away = False
        self.batches: list[tuple[int, float | None]] = []

    async def write(self, records: list[PictureBuyer], seconds: float | None) -> None:
        if self.away:
            raise StoreUnavailable
        self.batches.append((len(records), seconds))


async def test_each_picture_of_a_purchase_is_written_once(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "gateway.db") as store:
        buyers = PictureBuyers(store.pictures, settings=Settings, wall=lambda: NOON)
        first, second, third = PICTURES
        async with buyers:
            seen = Observers(buyers)
            seen.pictures_bought(RESERVATION, "q1", 80_000, body(first, second, first))
            seen.pictures_bought(RESERVATION, "q1", 1, body(third, uri="data:image/png;base64,"))
            seen.pictures_bought(RESERVATION, "q1", 1, b'{"data":[{"url":"https://h/1.png"}]}')
        for digest in DIGESTS:
            (found,) = await store.pictures.find(digest, 9)
            assert found == PictureBuyer(
                sha256=digest,
                purchase="r1",
                request_id="q1",
                at=NOON,
                team="red",
                key="k1",
                model="gpt-image-2",
                cost=1 if digest == DIGESTS[2] else 80_000,
            )


async def test_what_waits_for_the_store_is_bounded_and_keeps_its_time() -> None:
    store, settings = Store(), Settings()
    buyers = PictureBuyers(store, settings=lambda: settings, wall=lambda: NOON)  # type: ignore[arg-type]
    store.away = True
    many = body(*(b"%06d" % number for number in range(MOST_UNWRITTEN)))
    for _ in range(3):  # the third one is too much
        buyers.pictures_bought(RESERVATION, "q", 1, many)
        with pytest.raises(StoreUnavailable):
            await buyers.flush()
    store.away = False
    settings = replace(settings, usage=replace(settings.usage, keep_days=0))
    for _ in range(2 * MOST_UNWRITTEN // MOST_AT_ONCE):
        await buyers.flush()
    assert sum(number for number, _ in store.batches) == 2 * MOST_UNWRITTEN
    assert {seconds for _, seconds in store.batches} == {None}


async def test_answers_that_wait_are_bounded_and_none_is_taken_when_switched_off() -> None:
    store, settings = Store(), Settings()
    buyers = PictureBuyers(store, settings=lambda: settings, wall=lambda: NOON)  # type: ignore[arg-type]
    answer = body(PICTURES[0])
    buyers.most_waiting = len(answer)
    for _ in range(2):
        buyers.pictures_bought(RESERVATION, "q", 1, answer)
    await buyers.flush()
    settings = replace(settings, images=replace(settings.images, enabled=False))
    buyers.pictures_bought(RESERVATION, "q", 1, answer)
    await buyers.flush()
    assert store.batches == [(1, 400 * 86_400.0)]
