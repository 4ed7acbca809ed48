"""The pictures of an answer on its way: fetched, kept, and shown in the form that a client reads.

Everything here comes after the purchase was settled, and none of it fails an answer: that is paid
for. A picture that cannot be fetched goes out as its URL, one that cannot be kept as its base64.

A picture is kept when a form first links to it. The answer in memory stays as it was sent, so that
another form of it, or a picture that the image store no longer has, costs no purchase.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from math import inf

import structlog
from msgspec.structs import replace

from gateway.core.byte_budget import ByteBudget
from gateway.core.model import Bought, Picture
from gateway.core.single_flight import Flights
from gateway.core.tasks import Service
from gateway.images.fetch import GONE, Fetcher
from gateway.images.forms import is_ready, picture_bytes, render, wants_link, with_base64
from gateway.images.links import Links
from gateway.images.store import ImageStore
from gateway.proxy.context import Context, Reader
from gateway.proxy.url_expiry import is_embedded, keep_seconds, url_ends
from gateway.quota.image_response import ImageResponse

log = structlog.get_logger(source="pictures")

DISK_SECONDS = 2.0
"""How long an answer waits for the image store. What it does goes on in the background."""

BUDGET_BYTES = 128 * 1024 * 1024
"""Memory for pictures that are encoded, and again for those that are kept. Further ones wait, but
for no slow server."""

FURTHER = 2
"""How many more pictures than were asked for are fetched."""

LARGE_BYTES = 262_144
"""Larger answers are changed in a thread: it takes a millisecond for each."""


@dataclass(eq=False)
class Pictures(Service):
    """Fetches, keeps and shows pictures. `wall` returns the time.

    Without a `store` nothing is kept, without a `fetcher` nothing fetched. `budget` bounds the
    pictures to which base64 is added at a time, and `keep_budget` those that are being kept: a
    purchase must not wait for a slow store. `remember` adds the names of an answer's pictures to
    the answer in memory.
    """

    wall: Callable[[], float]
    links: Links = field(default_factory=lambda: Links(b""))
    store: ImageStore | None = None
    fetcher: Fetcher | None = None
    remember: Callable[[str, Bought], None] = lambda name, bought: None
    budget: ByteBudget = field(default_factory=lambda: ByteBudget(BUDGET_BYTES))
    keep_budget: ByteBudget = field(default_factory=lambda: ByteBudget(BUDGET_BYTES))
    _keeping: Flights[Bought] = field(default_factory=Flights)

    async def start(self) -> None:
        """Start to fetch."""
        if self.fetcher is not None:
            await self.fetcher.start()

    async def close(self) -> None:
        """Stop."""
        await self._keeping.drain(0)
        if self.fetcher is not None:
            await self.fetcher.close()

    # -- a purchase -----------------------------------------------------------------------------

    async def complete(self, bought: Bought, answered: ImageResponse, context: Context) -> Bought:
        """Note what is known of the pictures, and add the base64 of those that came as URLs."""
        given, life = answered.given, context.settings.cache.url_ttl_seconds
        ends = url_ends([image.url for image in given], bought.at, life)
        known = (
            Picture(has_url=bool(image.url), until=end)
            for image, end in zip(given, ends, strict=True)
        )
        bought = replace(bought, pictures=tuple(known))
        lacking = {place: image.url for place, image in enumerate(given) if not image.has_base64}
        if not lacking:
            return bought
        try:
            with context.record.waiting():
                return await self._fetched(bought, lacking, context)
        except asyncio.CancelledError:  # the drain's time is up, and the answer is in hand
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            log.info("picture not fetched: the gateway stops", id=context.record.id)
        except Exception as defect:  # of any kind: the answer is paid for
            log.exception("picture not fetched", id=context.record.id, exc_info=defect)
        return bought

    async def _fetched(
        self, bought: Bought, lacking: Mapping[int, str], context: Context
    ) -> Bought:
        """Return the answer with the base64 of the pictures at these URLs, as far as it is had."""
        settings, most = context.settings, context.request.n + FURTHER
        embedded = {place for place, url in lacking.items() if is_embedded(url)}
        found = await _decoded(bought.body, embedded) if embedded else {}
        gone = set[int]()
        remote = dict(islice((each for each in lacking.items() if each[0] not in embedded), most))
        if remote and self.fetcher is not None:
            fetched = await self.fetcher.fetch_all(
                list(remote.values()),
                settings.upstream.base_url,
                settings.images.fetch_hosts,
                settings.upstream.max_response_bytes,
                context.record.id,
            )
            answers = dict(zip(remote, fetched, strict=True))
            found |= {place: data for place, data in answers.items() if data}
            gone = {place for place, data in answers.items() if data == GONE}
        pictures = tuple(
            replace(
                picture,
                fetched=place in found,
                until=bought.at if place in gone else picture.until,
            )
            for place, picture in enumerate(bought.pictures)
        )
        bought = replace(bought, pictures=pictures)
        if not found:
            return bought
        async with self.budget.hold(min(sum(map(len, found.values())), self.budget.size)):
            body = await asyncio.to_thread(with_base64, bought.body, found)
        return replace(bought, body=body)

    # -- an answer ------------------------------------------------------------------------------

    async def shown(self, bought: Bought, reader: Reader) -> bytes:
        """Return the answer in the form that the client reads."""
        form, now = reader.form, self.wall()
        if is_ready(bought.pictures, form, now):
            return bought.body
        link, settings = None, reader.settings
        try:
            origin = reader.origin() if settings.has_links else ""
            if origin and self.store is not None:
                bought = await self._linked(self.store, bought, reader, now)
                until = now + settings.images.link_seconds
                link = partial(self.links.link, origin, until=until)
            change = partial(render, bought, form, link, now)
            if len(bought.body) < LARGE_BYTES:
                return change()
            return await asyncio.to_thread(change)
        except Exception as defect:  # of any kind: the answer is paid for
            log.exception("answer not put into its form", id=reader.record.id, exc_info=defect)
            return bought.body

    async def _linked(
        self, store: ImageStore, bought: Bought, reader: Reader, now: float
    ) -> Bought:
        """Return the answer with the names of the pictures that its form links to.

        Those that are not in the store, or no longer, are kept now.
        """
        pictures = bought.pictures or (Picture(),) * bought.images
        names = {
            place: picture.name
            for place, picture in enumerate(pictures)
            if wants_link(picture, reader.form, now)
        }
        missing = set(names)
        with suppress(TimeoutError):
            async with asyncio.timeout(DISK_SECONDS):
                for place, name in names.items():
                    if name and await store.has(name):
                        missing.discard(place)
                if missing:
                    # The same answer may be asked for many times at once.
                    flight = f"{id(bought.body)} {sorted(missing)}"
                    lacking = _without_names(bought, pictures, missing)
                    keep = partial(self._keep, store, lacking, missing, reader.fingerprint)
                    return await self._keeping.lead_or_join(flight, keep).result()
        return _without_names(bought, pictures, missing)

    async def _keep(
        self, store: ImageStore, bought: Bought, places: Collection[int], fingerprint: str
    ) -> Bought:
        """Keep the pictures at these places, and return the answer with their names."""
        async with self.keep_budget.hold(min(len(bought.body), self.keep_budget.size)):
            found = await _decoded(bought.body, places)
            kept = await asyncio.gather(*map(store.keep, found.values()))
        names = dict(zip(found, kept, strict=True))
        pictures = tuple(
            replace(picture, name=names.get(place) or picture.name)
            for place, picture in enumerate(bought.pictures)
        )
        named = replace(bought, pictures=pictures)
        self.remember(fingerprint, named)
        return named


def lifetime(
    bought: Bought, answered: ImageResponse, most: float, context: Context, now: float
) -> float:
    """How many seconds from `now` an answer can be used, at most `most`.

    A picture whose base64 is there lasts; another one does as long as its URL works. Its life began
    with the purchase: to fetch pictures in vain takes a part of it.
    """
    urls = [url for url, _ in _without_base64(bought, answered)]
    life = keep_seconds(urls, bought.at, inf, context.settings.cache.url_ttl_seconds)
    return min(most, life - (now - bought.at))


def cache_seconds(bought: Bought, answered: ImageResponse, context: Context, now: float) -> float:
    """How long from `now` the cache may keep an answer: a whole one, while its pictures last."""
    if not context.cache.store or answered.images < context.request.n:
        return 0.0
    if any(picture.until <= bought.at for _, picture in _without_base64(bought, answered)):
        return 0.0  # a URL that was dead from the start
    return lifetime(bought, answered, context.settings.cache.ttl_seconds, context, now)


def _without_base64(bought: Bought, answered: ImageResponse) -> Iterator[tuple[str, Picture]]:
    """Yield the pictures of which only the URL is there, each with that."""
    pictures = bought.pictures or (Picture(),) * len(answered.given)
    for image, picture in zip(answered.given, pictures, strict=True):
        if not (image.has_base64 or picture.fetched):
            yield image.url, picture


def _without_names(bought: Bought, pictures: Iterable[Picture], places: Collection[int]) -> Bought:
    """Return the answer with these pictures, without the names of those at these places."""
    named = (
        replace(picture, name="") if place in places else picture
        for place, picture in enumerate(pictures)
    )
    return replace(bought, pictures=tuple(named))


async def _decoded(body: bytes, places: Collection[int]) -> dict[int, bytes]:
    if len(body) < LARGE_BYTES:
        return picture_bytes(body, places)
    return await asyncio.to_thread(picture_bytes, body, places)
