"""Tracing with OpenTelemetry: the optional extra `otel`. Imported only where it is switched on.

Names are those of OpenTelemetry's semantic conventions: HTTP server spans, and GenAI client spans
(`gen_ai.*`) for the upstream. Trace context comes in and goes out as W3C Trace Context says
(`traceparent`, `tracestate`). Where spans go, and how many of them, is told by OpenTelemetry's own
environment variables, such as OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_TRACES_SAMPLER.

No key is in a span, and no prompt unless an operator has switched that on.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.config.settings import UpstreamSettings
from gateway.core.errors import GatewayError
from gateway.core.model import ImageRequest
from gateway.core.money import format_usd
from gateway.quota.token_usage import Usage
from gateway.telemetry.request_record import RequestRecord

_CONTEXT = ("traceparent", "tracestate")

STATE_CHARS = 512
"""Of a trace's state, as it goes on: what W3C Trace Context, section 3.3.1.5, asks for at least."""

CLOSE_SECONDS = 3.0
"""How long what is left may take to be sent in the end."""

Attributes = dict[str, str | int | float | bool]


class Telemetry:
    """Spans for requests, waits for the store and calls to the upstream.

    `store` is the kind of the store's URL. `prompts` says whether spans show prompts. `exporter`
    takes what has ended; without one it goes where the environment says, by OTLP over HTTP.
    """

    def __init__(self, *, store: str, prompts: bool, exporter: SpanExporter | None = None) -> None:
        resource = Resource.create(
            {"service.name": "image-gateway", "service.version": __version__}
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("gateway", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._system = "sqlite" if store == "sqlite" else "redis"
        self._prompts = prompts

    def close(self) -> None:
        """Send what is left, for three seconds at most; blocks."""
        # The exporter tries for half a minute: a stop has no such time. What is left is lost.
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    @contextmanager
    def request(
        self, method: str, route: str, headers: Mapping[str, str], record: RequestRecord
    ) -> Iterator[None]:
        """See `gateway.telemetry.tracing.Tracing`."""
        given = {name: headers[name] for name in _CONTEXT if name in headers}
        about: Attributes = {"http.request.method": method}
        if route:
            about["http.route"] = route
        with self._span(
            f"{method} {route}".rstrip(),
            SpanKind.SERVER,
            about,
            self._propagator.extract(given, Context()),
        ) as span:
            try:
                yield
            finally:
                span.set_attributes(_told(record))
                if record.status >= 500:
                    span.set_attribute("error.type", record.code or str(record.status))
                    span.set_status(StatusCode.ERROR)

    @contextmanager
    def store(self, operation: str) -> Iterator[None]:
        """See `gateway.telemetry.tracing.Tracing`."""
        about: Attributes = {"db.system.name": self._system, "db.operation.name": operation}
        with self._span(f"store {operation}", SpanKind.CLIENT, about):
            yield

    @contextmanager
    def upstream(self, request: ImageRequest, settings: UpstreamSettings) -> Iterator["_Call"]:
        """See `gateway.telemetry.tracing.Tracing`."""
        parts = urlsplit(settings.url)
        about: Attributes = {
            "gen_ai.operation.name": "image_generation",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": request.model,
            "gen_ai.request.choice.count": request.n,
            "gen_ai.output.type": "image",
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
        }
        if self._prompts:
            part = {"type": "text", "content": request.prompt}
            about["gen_ai.input.messages"] = json.dumps([{"role": "user", "parts": [part]}])
        name = f"image_generation {request.model}"
        with self._span(name, SpanKind.CLIENT, about) as span:
            headers: dict[str, str] = {}
            self._propagator.inject(headers, set_span_in_context(span))
            if len(headers.get("tracestate", "")) > STATE_CHARS:  # clients choose what is in it
                del headers["tracestate"]
            yield _Call(span, headers)

    @contextmanager
    def _span(
        self, name: str, kind: SpanKind, about: Attributes, context: Context | None = None
    ) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=kind,
            attributes=about,
            # An error's text may hold anything; its code and its type do not.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                kind_of_error = (
                    error.code if isinstance(error, GatewayError) else type(error).__name__
                )
                span.set_attribute("error.type", kind_of_error)
                span.set_status(StatusCode.ERROR)
                raise


class _Call:
    def __init__(self, span: Span, headers: Mapping[str, str]) -> None:
        self._span = span
        self.headers = headers

    def answered(self, usage: Usage) -> None:
        taken, given = usage.input_tokens, usage.output_tokens
        if taken or given:
            self._span.set_attribute("gen_ai.usage.input_tokens", taken)
            self._span.set_attribute("gen_ai.usage.output_tokens", given)


def _told(record: RequestRecord) -> Attributes:
    """What became of a request."""
    told: Attributes = {
        "http.response.status_code": record.status,
        "gateway.request_id": record.id,
        "gateway.outcome": record.outcome,
        "gateway.images": record.images,
        "gateway.cost_usd": format_usd(record.cost),
    }
    if record.caller is not None:
        told |= {"gateway.team": record.caller.team.name, "gateway.key": record.caller.key.id}
    return told
