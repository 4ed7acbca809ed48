"""Reads the upstream's reply: its images, or the error that it means, and what is odd in it."""

import asyncio

from gateway.config.models import Model
from gateway.config.settings import UpstreamSettings
from gateway.core.model import ImageRequest
from gateway.core.upstream_errors import UpstreamUnknown
from gateway.quota.image_response import ImageResponse, read_response, read_sound_response
from gateway.quota.pricing import falls_back
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.upstream.outcome import judge, without_picture
from gateway.upstream.port import Reply

LARGE_BYTES = 4_194_304
"""Larger responses are read in a thread."""


async def read_reply(reply: Reply, settings: UpstreamSettings, now: float) -> ImageResponse:
    """Return the images of a reply. Raises UpstreamError without any.

    `now` is the wall clock.
    """
    judge(reply, settings, now)
    try:
        return await _read(reply.body)
    except UpstreamUnknown:
        raise without_picture(reply, settings) from None


async def _read(body: bytes) -> ImageResponse:
    """Read a response. A large one is read in a thread: 20 MB take 2 ms, and many may come at once.

    So is one with faults in its form.
    """
    if len(body) < LARGE_BYTES and (sound := read_sound_response(body)) is not None:
        return sound
    return await asyncio.to_thread(read_response, body)


def report_oddities(
    model: Model,
    request: ImageRequest,
    answered: ImageResponse,
    record: RequestRecord,
    observer: Observer,
) -> None:
    """Report more images than were asked for, and a missing usage where tokens are billed."""
    if answered.images > request.n:
        observer.excess_delivered(record)
    if falls_back(model, answered):
        observer.usage_fell_back(record)
