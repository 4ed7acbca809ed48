"""Tracing with OpenTelemetry: the optional extra `otel`, imported only if tracing is enabled.

Names follow OpenTelemetry's semantic conventions: HTTP server spans, and GenAI client spans
(`gen_ai.*`) for the upstream. Trace context is read and sent as W3C Trace Context (`traceparent`,
`tracestate`). OpenTelemetry's own environment variables, such as OTEL_EXPORTER_OTLP_ENDPOINT and
OTEL_TRACES_SAMPLER, set where spans go and how many are recorded.

A span never holds a key, and a prompt only if an operator has enabled that.
"""

import asyncio
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
from gateway.telemetry.tracing import Tracing, UpstreamSpan

STATE_CHARS = 512
"""The longest trace state that is passed on, as W3C Trace Context demands (section 3.3.1.5)."""

CLOSE_SECONDS = 3.0
"""How long sending the last spans may take."""

Attributes = dict[str, str | int | float | bool]


class OpenTelemetryTracing(Tracing):
    """Sends spans with OpenTelemetry.

    `store` is the kind of the store's URL, `prompts` whether spans hold prompts. Spans go to
    `exporter`, by default by OTLP over HTTP to the collector that the environment names.
    """

    def __init__(self, *, store: str, prompts: bool, exporter: SpanExporter | None = None) -> None:
        about = {"service.name": "image-gateway", "service.version": __version__}
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("gateway", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._system = "sqlite" if store == "sqlite" else "redis"
        self._prompts = prompts

    async def aclose(self) -> None:
        """Send the rest in a thread, as `close` does."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Send the last spans. Blocks for three seconds at most."""
        # The exporter would try for half a minute, which a stop does not have. The rest is lost.
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    @contextmanager
    def request(
        self, method: str, route: str, headers: Mapping[str, str], record: RequestRecord
    ) -> Iterator[None]:
        about: Attributes = {"http.request.method": method}
        if route:
            about["http.route"] = route
        context = self._propagator.extract(headers, Context())
        with self._span(f"{method} {route}".rstrip(), SpanKind.SERVER, about, context) as span:
            try:
                yield
            finally:
                span.set_attributes(_result(record))
                if record.status >= 500:
                    span.set_attribute("error.type", record.code or str(record.status))
                    span.set_status(StatusCode.ERROR)

    @contextmanager
    def store(self, operation: str) -> Iterator[None]:
        about: Attributes = {"db.system.name": self._system, "db.operation.name": operation}
        with self._span(f"store {operation}", SpanKind.CLIENT, about):
            yield

    @contextmanager
    def upstream(self, request: ImageRequest, settings: UpstreamSettings) -> Iterator[UpstreamSpan]:
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
            if len(headers.get("tracestate", "")) > STATE_CHARS:  # clients choose its content
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
            # An error's text may hold secrets; its code and its type cannot.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                code = error.code if isinstance(error, GatewayError) else type(error).__name__
                span.set_attribute("error.type", code)
                span.set_status(StatusCode.ERROR)
                raise


class _Call(UpstreamSpan):
    def __init__(self, span: Span, headers: Mapping[str, str]) -> None:
        self._span = span
        self.headers = headers

    def answered(self, usage: Usage) -> None:
        tokens_in, tokens_out = usage.input_tokens, usage.output_tokens
        if tokens_in or tokens_out:
            self._span.set_attribute("gen_ai.usage.input_tokens", tokens_in)
            self._span.set_attribute("gen_ai.usage.output_tokens", tokens_out)


def _result(record: RequestRecord) -> Attributes:
    """Describe the end of a request."""
    result: Attributes = {
        "http.response.status_code": record.status,
        "gateway.request_id": record.id,
        "gateway.outcome": record.outcome,
        "gateway.images": record.images,
        "gateway.cost_usd": format_usd(record.cost),
    }
    if record.caller is not None:
        result |= {"gateway.team": record.caller.team.name, "gateway.key": record.caller.key.id}
    return result
