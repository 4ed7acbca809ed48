"""The port for traces: spans of a request, of its waits for the store, and of its upstream call.

A span encloses a block, so these are context managers and no events of the observer. The base class
makes no spans and needs no packages; `gateway.telemetry.otel` sends them with OpenTelemetry.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from gateway.config.settings import UpstreamSettings
from gateway.core.model import ImageRequest
from gateway.quota.token_usage import Usage
from gateway.telemetry.request_record import RequestRecord


class UpstreamSpan:
    """The span of a call to the upstream. `headers` pass its trace context on."""

    headers: Mapping[str, str] = {}

    def answered(self, usage: Usage) -> None:
        """Add the tokens that the answer reports."""


class Tracing:
    """Makes no spans. A subclass marks a span as failed if an error leaves its block."""

    _no_span = nullcontext()
    _no_upstream_span = nullcontext(UpstreamSpan())

    def request(
        self, method: str, route: str, headers: Mapping[str, str], record: RequestRecord
    ) -> AbstractContextManager[object]:
        """The span of a client's request, in the trace of its headers. At its end it gets
        the fields of `record`. `route` is one of the gateway's paths, or "".
        """
        return self._no_span

    def store(self, operation: str) -> AbstractContextManager[object]:
        """The span of a wait for the store."""
        return self._no_span

    def upstream(
        self, request: ImageRequest, settings: UpstreamSettings
    ) -> AbstractContextManager[UpstreamSpan]:
        """The span of a call to the upstream and of reading its answer."""
        return self._no_upstream_span

    async def aclose(self) -> None:
        """Send the spans that are not sent yet."""


NO_TRACING = Tracing()
