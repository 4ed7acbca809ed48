"""Spans of a request: their names, what hangs on what, the context in and out, and no secret."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event, Thread

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from gateway.core.model import Limits
from gateway.server.gateway import Gateway
from gateway.telemetry.otel import OpenTelemetryTracing
from gateway.upstream.sandbox import Sandbox, SandboxSettings, UpstreamFault
from tests.support.program import CLEAN, program
from tests.support.rig import UPSTREAM_KEY, Rig, settings_for
from tests.support.tools import ROOT

ON = "[tracing]\nenabled = true\n"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
PROMPT = "a canary in a coal mine"
ROUTE = "/v1/images/generations"
REQUEST, CALL = f"POST {ROUTE}", "image_generation gpt-image-2"

Spans = Mapping[str, ReadableSpan]


@asynccontextmanager
async def traced(
    folder: Path, exporter: InMemorySpanExporter, toml: str = ON, **environ: str
) -> AsyncIterator[Rig]:
    """A gateway whose spans have all been exported once the block has ended."""
    async with Sandbox(SandboxSettings(api_key=UPSTREAM_KEY, picture="dot")) as sandbox:
        gateway = Gateway(settings_for(folder, sandbox, toml, **environ), exporter=exporter)
        await gateway.start()
        try:
            async with aiohttp.ClientSession() as session:
                yield Rig(gateway, sandbox, session)
        finally:
            await gateway.stop()


@asynccontextmanager
async def listening(
    handler: Callable[[web.BaseRequest], Awaitable[web.Response]],
) -> AsyncIterator[str]:
    """The URL of a server that this handler answers for."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def by_name(exporter: InMemorySpanExporter) -> Spans:
    return {span.name: span for span in exporter.get_finished_spans()}


def about(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_a_purchase_is_a_request_two_waits_and_a_call(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    async with traced(tmp_path, exporter) as rig:
        key = await rig.key("red")
        headers = {"traceparent": PARENT, "X-Request-Id": "r-1"}
        got = await rig.generate(key, PROMPT, headers=headers, n=2)
    spans = by_name(exporter)
    assert spans.keys() == {REQUEST, CALL, "store reserve", "store settle"}
    request = spans[REQUEST]
    assert request.kind is SpanKind.SERVER
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    for span in spans.values():
        if span is not request:
            assert span.parent is not None
            assert span.parent.span_id == request.context.span_id
    assert about(request) == {
        "http.request.method": "POST",
        "http.route": ROUTE,
        "http.response.status_code": 200,
        "gateway.request_id": "r-1",
        "gateway.team": "red",
        "gateway.key": key.removeprefix("sk-gw-").partition("_")[0],
        "gateway.outcome": "miss",
        "gateway.images": 2,
        "gateway.cost_usd": about(request)["gateway.cost_usd"],
    }
    call = spans[CALL]
    assert call.kind is SpanKind.CLIENT
    assert about(call) == {
        "gen_ai.operation.name": "image_generation",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-image-2",
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "image",
        "gen_ai.usage.input_tokens": got.json["usage"]["input_tokens"],
        "gen_ai.usage.output_tokens": got.json["usage"]["output_tokens"],
        "server.address": "127.0.0.1",
        "server.port": about(call)["server.port"],
    }
    assert about(spans["store reserve"])["db.system.name"] == "sqlite"


async def test_a_hit_is_only_a_request(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    async with traced(tmp_path, exporter) as rig:
        key = await rig.key()
        for request_id in ("first", "second"):
            await rig.generate(key, PROMPT, headers={"X-Request-Id": request_id})
    spans = exporter.get_finished_spans()
    (hit,) = [span for span in spans if about(span).get("gateway.request_id") == "second"]
    assert about(hit)["gateway.outcome"] == "hit"
    assert [span for span in spans if span.context.trace_id == hit.context.trace_id] == [hit]


LONG_STATE = ",".join(f"vendor{number}={'x' * 40}" for number in range(20))


@pytest.mark.parametrize(
    ("toml", "state", "sent_state"),
    [(ON, "vendor=1", "vendor=1"), (ON, LONG_STATE, None), ("", "vendor=1", None)],
    ids=["on", "long state", "off"],
)
async def test_the_upstream_gets_the_trace_context_of_the_call(
    tmp_path: Path,
    exporter: InMemorySpanExporter,
    toml: str,
    state: str,
    sent_state: str | None,
) -> None:
    received: list[Mapping[str, str]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        received.append(request.headers)
        return web.json_response({"created": 1, "data": [{"b64_json": "aGk="}]})

    async with (
        listening(answer) as url,
        traced(tmp_path, exporter, toml, UPSTREAM_BASE_URL=url) as rig,
    ):
        context = {"traceparent": PARENT, "tracestate": state}
        assert (await rig.generate(await rig.key(), PROMPT, headers=context)).status == 200
    (sent,) = received
    parent = None
    if toml:
        parent = f"00-{TRACE}-{by_name(exporter)[CALL].context.span_id:016x}-01"
    assert (sent.get("traceparent"), sent.get("tracestate")) == (parent, sent_state)
    assert bool(exporter.get_finished_spans()) is bool(toml)


@pytest.mark.parametrize(
    "given", ["", "rubbish", f"00-{'0' * 32}-b7ad6b7169203331-01"], ids=["empty", "rubbish", "zero"]
)
async def test_an_invalid_context_starts_a_new_trace(
    tmp_path: Path, exporter: InMemorySpanExporter, given: str
) -> None:
    async with traced(tmp_path, exporter) as rig:
        got = await rig.generate(await rig.key(), PROMPT, headers={"traceparent": given})
        assert got.status == 200
    assert by_name(exporter)[REQUEST].parent is None


async def test_an_error_is_recorded_by_its_code(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    async with traced(tmp_path, exporter) as rig:
        rig.sandbox.faults.append(UpstreamFault(kind="status", status=500))
        await rig.generate(await rig.key(), PROMPT)
    spans = by_name(exporter)
    for name in (REQUEST, CALL):
        assert about(spans[name])["error.type"] == "upstream_failed"
        assert spans[name].status.status_code is StatusCode.ERROR
        assert not spans[name].events
    assert "store release" in spans


async def test_a_refusal_is_no_error_of_the_gateway(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    async with traced(tmp_path, exporter) as rig:
        await rig.generate(await rig.key(limits=Limits(images_per_day=0)), PROMPT)
    request = by_name(exporter)[REQUEST]
    assert about(request)["http.response.status_code"] == 429
    assert request.status.status_code is StatusCode.UNSET


async def test_spans_hold_no_key_prompt_or_path(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    async with traced(tmp_path, exporter) as rig:
        key = await rig.key()
        await rig.generate(key, PROMPT)
        await rig.get(f"/v1/{key}")
    exported = "\n".join(span.to_json() for span in exporter.get_finished_spans())
    assert REQUEST in exported
    for secret in (key, key.rpartition("_")[2], UPSTREAM_KEY, PROMPT):
        assert secret not in exported


async def test_spans_hold_prompts_if_the_operator_enables_them(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    async with traced(tmp_path, exporter, f"{ON}prompts = true\n") as rig:
        await rig.generate(await rig.key(), PROMPT)
    (message,) = json.loads(str(about(by_name(exporter)[CALL])["gen_ai.input.messages"]))
    assert message == {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}


def python(folder: Path, code: str) -> str:
    """What another process prints, in this folder."""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**CLEAN, "PYTHONPATH": str(ROOT), "GATEWAY_TRACING_ENABLED": "true"},
        capture_output=True,
        check=True,
    )
    return ended.stdout.decode().strip()


def test_opentelemetry_is_not_imported_unless_enabled(tmp_path: Path) -> None:
    # redis-py imports some of OpenTelemetry by itself, where that is installed.
    modules = "{'gateway.telemetry.otel', 'opentelemetry.exporter'}"
    code = f"import sys, gateway.server.run; print({modules} & sys.modules.keys())"
    assert python(tmp_path, code) == "set()"


def test_missing_packages_are_an_error_at_the_start(tmp_path: Path) -> None:
    output = python(
        tmp_path,
        "import sys\n"
        "sys.modules['opentelemetry.exporter'] = None\n"
        "from gateway.cli.main import gateway\n"
        "try:\n"
        "    gateway(['serve', '--demo'], standalone_mode=False)\n"
        "except Exception as error:\n"
        "    print(error)\n",
    )
    assert "image-gateway[otel]: opentelemetry.exporter" in output
    assert output.endswith("is not installed.")


async def test_spans_go_where_the_environment_says(tmp_path: Path) -> None:
    arrived = asyncio.Queue[ExportTraceServiceRequest]()

    async def take(request: web.BaseRequest) -> web.Response:
        arrived.put_nowait(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response()

    async with listening(take) as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with program(tmp_path, TRACING_ENABLED="true") as gateway:
            await gateway.start("serve", "--demo", variables=variables)
            url, _ = await gateway.listening()
            async with aiohttp.ClientSession() as session:
                await session.get(f"{url}/v1/models")
            async with asyncio.timeout(30):
                (resource,) = (await arrived.get()).resource_spans
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "image-gateway"
    (scope,) = resource.scope_spans
    assert [span.name for span in scope.spans] == ["GET /v1/models"]


class Stuck(SpanExporter):
    """Takes nothing until it is let go."""

    def __init__(self) -> None:
        self.asked, self.go = Event(), Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        assert self.go.wait(60)
        return SpanExportResult.SUCCESS


def test_a_collector_that_hangs_holds_up_no_stop() -> None:
    stuck = Stuck()
    telemetry = OpenTelemetryTracing(store="sqlite", prompts=False, exporter=stuck)
    with telemetry.store("load"):
        pass
    closing = Thread(target=telemetry.close, daemon=True)
    closing.start()
    try:
        assert stuck.asked.wait(30)
        closing.join(30)
        assert not closing.is_alive()
    finally:
        stuck.go.set()
