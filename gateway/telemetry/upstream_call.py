"""The call to the upstream, measured and reported."""

from collections.abc import Awaitable
from time import perf_counter

from gateway.core.errors import UpstreamError
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.upstream.port import Reply


async def measured_call(
    call: Awaitable[Reply], model: str, record: RequestRecord, observer: Observer
) -> Reply:
    """Await the call, which counts as a wait of this request, and report how it ended."""
    started, status = perf_counter(), "failed"
    try:
        with record.waiting():
            reply = await call
        status = str(reply.status)
        return reply
    except UpstreamError as error:
        status = error.code
        raise
    finally:
        record.upstream = perf_counter() - started
        observer.upstream_call_ended(model, status, record.upstream)
